-- A page cache in Redis as it is commonly written: one GET per hit, the head packed before the body.
local redis = require "nginx.redis"
local _M = {}

local function unpack_response(packed)
    local length = tonumber(packed:sub(1, 8), 16)
    if not length then return nil end
    for name, value in packed:sub(9, 8 + length):gmatch("([^:]+): ([^\n]*)\n") do
        ngx.header[name] = value
    end
    return packed:sub(9 + length)
end

function _M.answer(host, port)
    local cache = redis:new()
    cache:set_timeouts(250, 250, 250)
    local key = "page:" .. ngx.var.scheme .. "://" .. ngx.var.host .. ngx.var.request_uri
    local connected = cache:connect(host, port)
    if connected then
        local packed = cache:get(key)
        if type(packed) == "string" then
            cache:set_keepalive(60000, 256)
            local body = unpack_response(packed)
            if body then
                ngx.header["Content-Length"] = #body
                ngx.header["X-Cache"] = "HIT"
                return ngx.print(body)
            end
        end
    end
    local answer = ngx.location.capture("/origin" .. ngx.var.uri, { args = ngx.var.args })
    ngx.status = answer.status
    local head = {}
    for name, value in pairs(answer.header) do
        if type(value) == "string" and name ~= "Content-Length" and name ~= "Connection" then
            ngx.header[name] = value
            head[#head + 1] = name .. ": " .. value .. "\n"
        end
    end
    ngx.header["Content-Length"] = #answer.body
    ngx.header["X-Cache"] = "MISS"
    ngx.print(answer.body)
    local control = answer.header["Cache-Control"] or ""
    local seconds = tonumber(control:match("max%-age=(%d+)"))
    if connected and answer.status == 200 and seconds then
        head = table.concat(head)
        cache:setex(key, seconds, string.format("%08x", #head) .. head .. answer.body)
        cache:set_keepalive(60000, 256)
    end
end

return _M
