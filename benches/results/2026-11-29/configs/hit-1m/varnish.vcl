vcl 4.1;
backend origin { .host = "127.0.0.1"; .port = "41063"; }
sub vcl_recv {
    if (req.url ~ "^/n/") { return (pass); }
}
