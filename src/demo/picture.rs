//! Pictures of products: PNG files of 48 to 147 KiB, drawn from the id alone.
//!
//! Decides: what a picture looks like, and its bytes. Never touches: files. The compressed stream
//! is made of stored blocks (RFC 1951 3.2.4): a picture is as large as a photograph would be, needs
//! no compressor, and is the same in every process.

use super::catalogue::mix;

/// The picture of product `id`, as a complete PNG file.
pub(super) fn png(id: u32) -> Vec<u8> {
    let chance = mix(u64::from(id) ^ 0x0070_6963_7475_7265);
    let side = 128 + (chance % 5) as u32 * 24;
    let mut file = Vec::with_capacity(side as usize * (side as usize * 3 + 1) + 256);
    file.extend_from_slice(b"\x89PNG\r\n\x1a\n");

    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&side.to_be_bytes());
    header.extend_from_slice(&side.to_be_bytes());
    // Eight bits a channel, RGB, deflate, no adaptive filter beyond "none", not interlaced.
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    chunk(&mut file, *b"IHDR", &header);
    chunk(&mut file, *b"IDAT", &zlib(&pixels(side, chance)));
    chunk(&mut file, *b"IEND", &[]);
    file
}

/// Rows of RGB, each after its filter byte: rings in one colour over a gradient in another.
fn pixels(side: u32, chance: u64) -> Vec<u8> {
    let colours = chance.to_le_bytes();
    let [_, r1, g1, b1, r2, g2, b2, width] = colours;
    let ring = 6 + u32::from(width) % 14;
    let mut rows = Vec::with_capacity(side as usize * (side as usize * 3 + 1));
    for y in 0..side {
        rows.push(0);
        for x in 0..side {
            let (dx, dy) = (x.abs_diff(side / 2), y.abs_diff(side / 2));
            let distance = (dx * dx + dy * dy).isqrt();
            let shade = 96 + (x + y) * 128 / (2 * side);
            let inside = distance < side * 2 / 5 && distance / ring % 2 == 0;
            let colour = if inside { [r1, g1, b1] } else { [r2 / 2 + 96, g2 / 2 + 96, b2 / 2 + 96] };
            rows.extend(colour.map(|channel| (u32::from(channel) * shade / 224).min(255) as u8));
        }
    }
    rows
}

/// One chunk: length, type, data, CRC over type and data.
fn chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    // The largest chunk is one picture: far below 2^32.
    file.extend_from_slice(&(data.len() as u32).to_be_bytes());
    file.extend_from_slice(&kind);
    file.extend_from_slice(data);
    file.extend_from_slice(&(!crc(crc(!0, &kind), data)).to_be_bytes());
}

/// The zlib stream (RFC 1950) of stored blocks that holds `data`.
fn zlib(data: &[u8]) -> Vec<u8> {
    let mut stream = Vec::with_capacity(data.len() + data.len() / 4096 + 16);
    stream.extend_from_slice(&[0x78, 0x01]);
    let mut blocks = data.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    stream.extend_from_slice(&adler(data).to_be_bytes());
    stream
}

/// The running CRC-32 of PNG, before its last inversion.
fn crc(start: u32, data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    data.iter().fold(start, |value, byte| TABLE[((value ^ u32::from(*byte)) & 255) as usize] ^ (value >> 8))
}

/// Adler-32 (RFC 1950 8).
fn adler(data: &[u8]) -> u32 {
    // 5552 is the longest run whose sums cannot overflow 32 bits.
    let (a, b) = data.chunks(5552).fold((1_u32, 0_u32), |(mut a, mut b), run| {
        for byte in run {
            a += u32::from(*byte);
            b += a;
        }
        (a % 65_521, b % 65_521)
    });
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_agree_with_published_values() {
        assert_eq!(!crc(!0, b"123456789"), 0xcbf4_3926);
        assert_eq!(adler(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn a_picture_is_a_whole_png_of_a_picture_s_size() {
        for id in 1..=12 {
            let file = png(id);
            assert!((40 << 10..200 << 10).contains(&file.len()), "{id}: {}", file.len());
            assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
            // The chunks lie end to end, and each says its own length.
            let (mut at, mut kinds) = (8, Vec::new());
            while at < file.len() {
                let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
                kinds.push(file[at + 4..at + 8].to_vec());
                at += length + 12;
            }
            assert_eq!(at, file.len());
            assert_eq!(kinds, [b"IHDR", b"IDAT", b"IEND"]);
            // The CRC of the empty last chunk is the same in every PNG file.
            assert_eq!(file[file.len() - 4..], [0xae, 0x42, 0x60, 0x82]);
            assert_eq!(file, png(id), "the same bytes every time");
        }
        assert_ne!(png(1), png(2));
    }
}
