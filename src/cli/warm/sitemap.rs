//! Sitemaps: the pages and the further sitemaps that one names (sitemaps.org 0.9).
//!
//! Decides: what in a document is an address. Never touches: the network, or whether an address can
//! be fetched. What is no sitemap is an error; what is none of its business (images, alternates,
//! dates) is passed over.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

/// Longer addresses are none.
const LONGEST: usize = 64 << 10;
/// How a gzip member begins (RFC 1952 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What a document names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sitemap {
    /// Pages.
    pub(super) pages: Vec<String>,
    /// Other sitemaps, of an index.
    pub(super) sitemaps: Vec<String>,
}

/// Whose address a `loc` is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Page,
    Sitemap,
}

impl Sitemap {
    /// Reads a sitemap, an index of sitemaps, or a list with an address on each line; packed with gzip or
    /// not, of `most` bytes at most.
    ///
    /// # Errors
    /// Why it is none, as the end of a sentence.
    pub(super) fn read(content: &[u8], most: usize) -> Result<Self, String> {
        let content = unpacked(content, most)?;
        let content = content.as_ref();
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let text = std::str::from_utf8(content).map_err(|_| "is not UTF-8".to_owned())?;
        if text.trim_start().starts_with('<') { Self::of_xml(text) } else { Ok(Self::of_lines(text)) }
    }

    fn of_lines(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Self { pages: lines.map(str::to_owned).collect(), sitemaps: Vec::new() }
    }

    fn of_xml(text: &str) -> Result<Self, String> {
        let mut found = Self::default();
        let mut reader = Reader::from_str(text);
        // The element whose `loc` counts, how deep below it this is, and the text of a `loc` so far.
        let (mut entry, mut depth, mut loc): (Option<Of>, usize, Option<String>) = (None, 0, None);
        let (mut is_sitemap, mut open) = (false, 0_usize);
        loop {
            let event = reader
                .read_event()
                .map_err(|error| format!("is not XML at byte {}: {error}", reader.error_position()))?;
            match &event {
                Event::Start(_) => open += 1,
                Event::End(_) => open = open.saturating_sub(1),
                _ => {}
            }
            match event {
                Event::Eof if open > 0 => return Err("is XML that ends in its middle".to_owned()),
                Event::Eof if is_sitemap => return Ok(found),
                Event::Eof => return Err("is XML, but neither a urlset nor a sitemapindex".to_owned()),
                Event::Start(element) => match (element.local_name().into_inner(), entry) {
                    ("urlset" | "sitemapindex", None) => is_sitemap = true,
                    ("url", None) => entry = Some(Of::Page),
                    ("sitemap", None) => entry = Some(Of::Sitemap),
                    // One of an image or a video is not the page's.
                    ("loc", Some(_)) if depth == 0 => {
                        (depth, loc) = (1, Some(String::new()));
                    }
                    (_, Some(_)) => depth += 1,
                    _ => {}
                },
                Event::End(_) if depth > 0 => {
                    depth -= 1;
                    if depth == 0
                        && let Some(address) = loc.take()
                    {
                        let address = address.trim();
                        match entry {
                            _ if address.is_empty() => {}
                            Some(Of::Sitemap) => found.sitemaps.push(address.to_owned()),
                            _ => found.pages.push(address.to_owned()),
                        }
                    }
                }
                Event::End(element) if matches!(element.local_name().into_inner(), "url" | "sitemap") => {
                    entry = None;
                }
                Event::Text(text) => add(&mut loc, &text.xml10_content())?,
                Event::CData(text) => add(&mut loc, &text.xml10_content())?,
                Event::GeneralRef(reference) if loc.is_some() => {
                    let letter = reference.resolve_char_ref().map_err(|error| error.to_string())?;
                    match letter {
                        Some(letter) => add(&mut loc, letter.encode_utf8(&mut [0; 4]))?,
                        None => {
                            let name = reference.xml10_content();
                            let text = resolve_xml_entity(&name)
                                .ok_or_else(|| format!("has an entity that is not XML's own: {name:?}"))?;
                            add(&mut loc, text)?;
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Adds to the text of a `loc`, if this is one.
fn add(loc: &mut Option<String>, text: &str) -> Result<(), String> {
    let Some(loc) = loc else { return Ok(()) };
    loc.push_str(text);
    if loc.len() > LONGEST { Err("has an address that is longer than any".to_owned()) } else { Ok(()) }
}

/// The content without gzip around it.
fn unpacked(content: &[u8], most: usize) -> Result<Cow<'_, [u8]>, String> {
    if !content.starts_with(&GZIP) {
        return Ok(Cow::Borrowed(content));
    }
    let mut plain = Vec::new();
    let beyond = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(content).take(beyond).read_to_end(&mut plain);
    read.map_err(|error| format!("cannot be unpacked: {error}"))?;
    if plain.len() > most { Err(format!("is larger than {most} bytes")) } else { Ok(Cow::Owned(plain)) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 1 << 20;

    fn read(content: &[u8]) -> Result<Sitemap, String> {
        Sitemap::read(content, MOST)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut packing = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packing.write_all(content).unwrap();
        packing.finish().unwrap()
    }

    fn pages(text: &str) -> Vec<String> {
        read(text.as_bytes()).unwrap().pages
    }

    #[test]
    fn a_sitemap_names_pages() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <!-- <url><loc>http://a/comment</loc></url> -->
            <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
              <url><loc> http://a/1 </loc><lastmod>2020-01-01</lastmod></url>
              <url><lastmod/><loc>http://a/?b=c&amp;d=&#101;&#x66;</loc>
                <image:image><image:loc>http://a/image</image:loc></image:image></url>
              <url><loc><![CDATA[http://a/<3>&]]></loc></url>
              <url><loc/></url><url></url>
            </urlset>"#;
        assert_eq!(pages(text), ["http://a/1", "http://a/?b=c&d=ef", "http://a/<3>&"]);
        let prefixed = "<s:urlset xmlns:s='x'><s:url><s:loc>http://a/</s:loc></s:url></s:urlset>";
        assert_eq!(pages(prefixed), ["http://a/"]);
        assert_eq!(pages("\u{feff}<urlset></urlset>"), [""; 0]);
    }

    #[test]
    fn an_index_names_sitemaps() {
        let text = "<sitemapindex><sitemap><loc>http://a/1.xml</loc><lastmod>x</lastmod></sitemap>\
                    <sitemap><loc>http://a/2.xml</loc></sitemap></sitemapindex>";
        let found = read(text.as_bytes()).unwrap();
        assert_eq!(
            (found.pages.len(), found.sitemaps),
            (0, vec!["http://a/1.xml".to_owned(), "http://a/2.xml".to_owned()])
        );
    }

    #[test]
    fn a_list_has_one_on_each_line() {
        assert_eq!(pages("http://a/1\r\n\n  http://a/2\n"), ["http://a/1", "http://a/2"]);
        assert_eq!(pages(""), [""; 0]);
    }

    #[test]
    fn one_may_be_packed() {
        let packed = gzip(b"<urlset><url><loc>http://a/1</loc></url></urlset>");
        assert_eq!(read(&packed).unwrap().pages, ["http://a/1"]);
        // A file may be several, one after the other (RFC 1952 2.2).
        let two = [gzip(b"http://a/1\n"), gzip(b"http://a/2\n")].concat();
        assert_eq!(read(&two).unwrap().pages, ["http://a/1", "http://a/2"]);
        for harmed in [&packed[..packed.len() - 1], &packed[..2], b"\x1f\x8bnothing of the kind"] {
            let why = read(harmed).unwrap_err();
            assert!(why.starts_with("cannot be unpacked: "), "{why}");
        }
        assert_eq!(read(&gzip(&vec![b'\n'; MOST])).unwrap().pages, [""; 0]);
        assert_eq!(read(&gzip(&vec![b'\n'; MOST + 1])).unwrap_err(), "is larger than 1048576 bytes");
    }

    #[test]
    fn what_is_none() {
        for (content, why) in [
            (b"\xff\xfe".as_slice(), "is not UTF-8"),
            (b"<html><body>Sorry</body></html>", "is XML, but neither a urlset nor a sitemapindex"),
            (
                b"<urlset><url><loc>&bomb;</loc></url></urlset>",
                "has an entity that is not XML's own: \"bomb\"",
            ),
        ] {
            assert_eq!(read(content).unwrap_err(), why);
        }
        for cut in ["<urlset><url>", "<urlset><url><loc>http://a/", "<urlset><url></url>"] {
            assert_eq!(read(cut.as_bytes()).unwrap_err(), "is XML that ends in its middle", "{cut}");
        }
        for broken in ["<urlset><url><loc>a</url>", "<urlset", "<urlset><url></urlset></url>"] {
            let why = read(broken.as_bytes()).unwrap_err();
            assert!(why.starts_with("is not XML at byte "), "{broken}: {why}");
        }
        let long = format!("<urlset><url><loc>{}</loc></url></urlset>", "x".repeat(LONGEST + 1));
        assert_eq!(read(long.as_bytes()).unwrap_err(), "has an address that is longer than any");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "(<urlset>)?(<url>|<loc>|</loc>|</url>|<x/>|&amp;|a){0,12}") {
            let _ = read(&bytes);
            let _ = read(text.as_bytes());
        }
    }
}
