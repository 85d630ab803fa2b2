//! Pictures, sound and files in base64: their cost depends on the content, not on the bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use limiter::stream::{Api, ApiRequest};

/// The smallest file with this size, padded to this many bytes.
fn png(width: u32, height: u32, bytes: usize) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    png.extend(b"\x08\x02\0\0\0\0\0\0\0");
    png.resize(png.len().max(bytes), 0xa5);
    png
}

/// A JPEG whose size comes after this many bytes of the camera's data.
fn jpeg(width: u16, height: u16, exif: u16) -> Vec<u8> {
    let mut jpeg = b"\xff\xd8\xff\xe1".to_vec();
    jpeg.extend((exif + 2).to_be_bytes());
    jpeg.resize(jpeg.len() + usize::from(exif), 0);
    jpeg.extend(b"\xff\xc0\0\x11\x08");
    jpeg.extend([height.to_be_bytes(), width.to_be_bytes()].concat());
    jpeg.extend(b"\x03\x01\x22\0\x02\x11\x01\x03\x11\x01");
    jpeg.resize(300_000, 0x5a);
    jpeg
}

fn wave(bytes_a_second: u32, seconds: u32) -> Vec<u8> {
    let mut wave = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    wave.extend([24_000, bytes_a_second].map(u32::to_le_bytes).concat());
    wave.resize((bytes_a_second * seconds) as usize, 0);
    wave
}

/// Returns the input tokens of a request with these bytes in its only part, without the 7 of a message.
fn tokens(api: Api, media_type: &str, bytes: &[u8]) -> u64 {
    let data = STANDARD.encode(bytes);
    let body = match api {
        Api::AnthropicMessages => format!(
            r#"{{"messages":[{{"content":[{{"source":{{"media_type":"{media_type}","data":"{data}"}}}}]}}]}}"#
        ),
        Api::Gemini => format!(
            r#"{{"contents":[{{"parts":[{{"inlineData":{{"mimeType":"{media_type}","data":"{data}"}}}}]}}]}}"#
        ),
        _ => {
            format!(r#"{{"messages":[{{"content":[{{"x":"data:{media_type};base64,{data}"}}]}}]}}"#)
        }
    };
    ApiRequest::read(api, body.as_bytes()).unwrap().input_tokens() - 7
}

/// Counted as text, it needs 100,038 tokens, and a limit of 50,000 a day denies it for ever.
#[test]
fn a_picture_of_300_kb_costs_what_it_shows() {
    for (api, expected) in
        [(Api::OpenAiChat, 1_010), (Api::AnthropicMessages, 1_089), (Api::Gemini, 1_120)]
    {
        let picture = png(900, 910, 300_000);
        assert_eq!(tokens(api, "image/png", &picture), expected, "{api}");
    }
}

#[test]
fn a_picture_costs_by_the_rule_of_its_provider() {
    use Api::{AnthropicMessages, Gemini, OpenAiChat};
    for (api, picture, expected) in [
        (OpenAiChat, png(1_024, 1_024, 0), 1_229),
        (OpenAiChat, png(1_920, 1_080, 0), 2_448),
        (OpenAiChat, png(20_000, 20_000, 0), 12_000),
        (AnthropicMessages, png(1_024, 1_024, 0), 1_369),
        (AnthropicMessages, png(1_920, 1_080, 0), 2_691),
        (AnthropicMessages, png(u32::MAX, u32::MAX, 0), 4_784),
        (AnthropicMessages, png(0, 0, 0), 0),
        (Gemini, png(1_920, 1_080, 0), 1_120),
        (OpenAiChat, jpeg(1_024, 1_024, 0), 1_229),
        (OpenAiChat, jpeg(1_024, 1_024, 65_000), 1_229),
        (OpenAiChat, b"GIF89a\x00\x04\x00\x04\xf7\0\0".to_vec(), 1_229),
        // No picture at all: the bound.
        (OpenAiChat, b"a picture that is not one".to_vec(), 3_000),
        (OpenAiChat, b"\x89PNG\r\n\x1a\n".to_vec(), 3_000),
        (AnthropicMessages, b"\xff\xd8\xff\xe1\xff\xff".to_vec(), 4_784),
        (AnthropicMessages, Vec::new(), 4_784),
    ] {
        assert_eq!(tokens(api, "image/png", &picture), expected, "{api}, {} bytes", picture.len());
    }
}

#[test]
fn sound_costs_by_its_seconds() {
    for (api, expected) in [(Api::OpenAiChat, 100), (Api::Gemini, 320)] {
        assert_eq!(tokens(api, "audio/wav", &wave(48_000, 10)), expected, "{api}");
        // Compressed: at 4,000 bytes a second.
        assert_eq!(tokens(api, "audio/mp3", &[0xff; 39_999]), expected, "{api}");
    }
    // A header that claims a huge rate, or none.
    assert_eq!(tokens(Api::Gemini, "audio/wav", &[wave(0, 1), vec![0; 39_999]].concat()), 320);
}

#[test]
fn a_file_costs_by_its_pages_or_its_text() {
    let pdf = [b"%PDF-1.7\n".as_slice(), &[0xa5; 50_000]].concat();
    assert_eq!(tokens(Api::OpenAiChat, "application/pdf", &pdf), 3 * 3_000);
    assert_eq!(tokens(Api::AnthropicMessages, "application/pdf", &pdf), 3 * 3_000);
    assert_eq!(tokens(Api::Gemini, "application/pdf", &pdf), 3 * 560);
    let huge = [b"%PDF-1.7\n".as_slice(), &[0xa5; 2_100_000]].concat();
    assert_eq!(tokens(Api::OpenAiChat, "application/pdf", &huge), 100 * 3_000);
    assert_eq!(tokens(Api::OpenAiChat, "text/csv", "é;1\n".repeat(3_000).as_bytes()), 3_750);
    assert_eq!(tokens(Api::OpenAiChat, "application/json", &b"[1,2]".repeat(1_200)), 1_500);
}

/// If base64 were free in places where no API has it, a prompt could be hidden there.
#[test]
fn text_is_not_free_by_looking_like_a_picture() {
    let prompt = "Tell me a story. ".repeat(1_000);
    for body in [
        format!(r#"{{"messages":[{{"content":"data: {prompt}"}}]}}"#),
        format!(r#"{{"messages":[{{"content":"data:image/png, {prompt}"}}]}}"#),
        format!(r#"{{"messages":[{{"content":[{{"image_url":["{prompt}"]}}]}}]}}"#),
        format!(
            r#"{{"messages":[{{"content":[{{"image_url":{{"url":"a","url":"{prompt}"}}}}]}}]}}"#
        ),
        format!(r#"{{"messages":[{{"content":[{{"type":"image_url","text":"{prompt}"}}]}}]}}"#),
    ] {
        let request = ApiRequest::read(Api::OpenAiChat, body.as_bytes()).unwrap();
        assert!(request.input_tokens() >= 4_250, "{}: {}", request.input_tokens(), &body[..60]);
    }
}
