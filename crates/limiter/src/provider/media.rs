//! Tokens of pictures, sound, video and files in a prompt: by the rule of the provider, or by a stated bound if the
//! size is unknown. Their base64 does not count as text.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::Api;
use super::scalar::{text, text_bytes};
use crate::estimate::BYTES_OF_A_TOKEN;

/// The kind of a part of a prompt, by its name. Inline data overrides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Picture,
    Audio,
    Video,
    File,
}

/// The size of a part of a prompt: tokens that were counted, and bytes of text that are not converted to tokens yet.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) tokens: u64,
    bytes: u64,
}

impl Size {
    pub(super) const fn tokens(tokens: u64) -> Self {
        Self { tokens, bytes: 0 }
    }

    pub(super) const fn text_bytes(bytes: u64) -> Self {
        Self { tokens: 0, bytes }
    }

    pub(super) const fn total(self) -> u64 {
        self.tokens.saturating_add(self.bytes.div_ceil(BYTES_OF_A_TOKEN))
    }

    pub(super) const fn times(self, factor: u64) -> Self {
        Self {
            tokens: self.tokens.saturating_mul(factor),
            bytes: self.bytes.saturating_mul(factor),
        }
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// Returns the size of a JSON value that holds media: a string with an address, a data URL or base64, or an object with
/// such a string.
pub(super) fn size(api: Api, kind: Kind, raw: &str, buffer: &mut String) -> Size {
    if raw.starts_with('{') {
        return match serde_json::from_str::<Object<'_>>(raw) {
            Ok(object) => object.size(api, kind, buffer),
            // A member is given twice. Neither value is larger than the whole object.
            Err(_) => Size::text_bytes(raw.len() as u64),
        };
    }
    match text(raw, buffer) {
        Some(text) => Media { api, kind, most_patches: OPENAI_MOST_PATCHES }.of_text(text),
        // The structure of an array is unknown.
        None if raw.starts_with('[') => Size::text_bytes(raw.len() as u64),
        None => Size::tokens(0),
    }
}

/// Returns the size of a text that is a data URL with base64. Such texts are media in any place.
pub(super) fn of_data_url(api: Api, text: &str) -> Option<Size> {
    let (media_type, data) = data_url(text)?;
    let kind = kind_of(media_type).unwrap_or(Kind::File);
    Some(Media { api, kind, most_patches: OPENAI_MOST_PATCHES }.of_base64(media_type, data))
}

/// An object with media, of any API.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default, alias = "file_data")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "fileUri", alias = "file_uri", alias = "file_url")]
    url: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "mimeType", alias = "mime_type")]
    media_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    source: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

impl Object<'_> {
    fn size(&self, api: Api, kind: Kind, buffer: &mut String) -> Size {
        // Anthropic's documents may be plain text, or content of their own.
        if let (Some("\"text\""), Some(data)) = (self.source.map(RawValue::get), self.data) {
            return Size::text_bytes(text_bytes(data.get()).unwrap_or_default() as u64);
        }
        if let Some(content) = self.content {
            return Size::text_bytes(content.get().len() as u64);
        }
        let media_type = self.media_type.map_or("", |raw| raw.get().trim_matches('"'));
        let kind = kind_of(media_type).unwrap_or(kind);
        let most_patches = match self.detail.map(RawValue::get) {
            Some("\"low\"") => OPENAI_LOW_PATCHES,
            Some("\"high\"") => OPENAI_HIGH_PATCHES,
            _ => OPENAI_MOST_PATCHES,
        };
        let media = Media { api, kind, most_patches };
        if let Some(data) = self.data.and_then(|raw| text(raw.get(), buffer)) {
            return match data_url(data) {
                Some((media_type, data)) => media.of_base64(media_type, data),
                None => media.of_base64(media_type, data),
            };
        }
        match self.url.and_then(|raw| text(raw.get(), buffer)) {
            Some(url) => media.of_text(url),
            // The id of an uploaded file.
            None => Size::tokens(media.of_unknown_size()),
        }
    }
}

#[derive(Clone, Copy)]
struct Media {
    api: Api,
    kind: Kind,
    /// By `detail` of OpenAI's pictures.
    most_patches: u64,
}

impl Media {
    /// Returns the size of an address, a data URL, or base64.
    fn of_text(self, text: &str) -> Size {
        if let Some((media_type, data)) = data_url(text) {
            return self.of_base64(media_type, data);
        }
        if text.starts_with("data:") {
            return Size::text_bytes(text.len() as u64);
        }
        // Every address has a scheme, and base64 has no colon.
        if text.len() <= MOST_NAME_BYTES
            || text.get(..MOST_SCHEME_BYTES).is_some_and(|start| start.contains(':'))
        {
            return Size::tokens(self.of_unknown_size());
        }
        self.of_base64("", text)
    }

    fn of_base64(self, media_type: &str, data: &str) -> Size {
        // Each 4 characters are 3 bytes.
        let bytes = (data.len() as u64).div_ceil(4).saturating_mul(3);
        let start = decoded(data, START_BYTES);
        match start.get(..4).unwrap_or_default() {
            b"%PDF" => return Size::tokens(self.of_pages(bytes)),
            b"RIFF" if start.get(8..12) == Some(b"WAVE") => {
                return Size::tokens(self.of_seconds(Kind::Audio, bytes, wave_rate(&start)));
            }
            _ => {}
        }
        if let Some((width, height)) = dimensions(&start, data) {
            return Size::tokens(self.of_picture(width, height));
        }
        let is_text = media_type.starts_with("text/")
            || (self.kind == Kind::File && !start.is_empty() && is_text(&start));
        Size::tokens(match self.kind {
            _ if is_text => return Size::text_bytes(bytes),
            Kind::Picture => self.of_unknown_size(),
            Kind::Audio => self.of_seconds(Kind::Audio, bytes, AUDIO_BYTES_A_SECOND),
            Kind::Video => self.of_seconds(Kind::Video, bytes, VIDEO_BYTES_A_SECOND),
            Kind::File => self.of_pages(bytes),
        })
    }

    fn of_picture(self, width: u64, height: u64) -> u64 {
        let patches = |side: u64| width.div_ceil(side).saturating_mul(height.div_ceil(side));
        match self.api {
            Api::Gemini | Api::GeminiEmbeddings => GEMINI_PICTURE_TOKENS,
            Api::AnthropicMessages => patches(ANTHROPIC_PATCH).min(ANTHROPIC_MOST_PATCHES),
            _ => openai_picture(patches(OPENAI_PATCH).min(self.most_patches)),
        }
    }

    fn of_seconds(self, kind: Kind, bytes: u64, bytes_a_second: u64) -> u64 {
        let a_second = match (kind, self.api) {
            (Kind::Video, _) => VIDEO_TOKENS_A_SECOND,
            (_, Api::Gemini | Api::GeminiEmbeddings) => GEMINI_AUDIO_TOKENS_A_SECOND,
            _ => OPENAI_AUDIO_TOKENS_A_SECOND,
        };
        bytes.saturating_mul(a_second).div_ceil(bytes_a_second)
    }

    fn of_pages(self, bytes: u64) -> u64 {
        let page = match self.api {
            Api::Gemini | Api::GeminiEmbeddings => GEMINI_PAGE_TOKENS,
            _ => PAGE_TOKENS,
        };
        bytes.div_ceil(BYTES_OF_A_PAGE).min(MOST_PAGES).saturating_mul(page)
    }

    fn of_unknown_size(self) -> u64 {
        match (self.kind, self.api) {
            (Kind::Picture, Api::Gemini | Api::GeminiEmbeddings) => GEMINI_PICTURE_TOKENS,
            (Kind::Picture, Api::AnthropicMessages) => ANTHROPIC_MOST_PATCHES,
            (Kind::Picture, _) => openai_picture(self.most_patches.min(OPENAI_HIGH_PATCHES)),
            (Kind::Audio | Kind::Video, _) => self.of_seconds(self.kind, UNKNOWN_SECONDS, 1),
            (Kind::File, _) => self.of_pages(UNKNOWN_PAGES * BYTES_OF_A_PAGE),
        }
    }
}

const fn openai_picture(patches: u64) -> u64 {
    patches.saturating_mul(6).div_ceil(5)
}

/// Returns the media type and the base64 of a data URL.
fn data_url(text: &str) -> Option<(&str, &str)> {
    let (head, data) = text.strip_prefix("data:")?.split_once(',')?;
    Some((head.strip_suffix(";base64")?, data))
}

fn kind_of(media_type: &str) -> Option<Kind> {
    Some(match media_type.split('/').next()? {
        "image" => Kind::Picture,
        "audio" => Kind::Audio,
        "video" => Kind::Video,
        "application" | "text" => Kind::File,
        _ => return None,
    })
}

/// Decodes the first bytes of base64 in either alphabet. Empty if the data is not base64.
fn decoded(data: &str, most_bytes: usize) -> Vec<u8> {
    let mut characters: Vec<u8> = data
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .take(most_bytes.div_ceil(3) * 4)
        .collect();
    while characters.last() == Some(&b'=') {
        characters.pop();
    }
    BASE64.decode(characters).unwrap_or_default()
}

/// Returns width and height of a picture, by its first bytes.
fn dimensions(start: &[u8], data: &str) -> Option<(u64, u64)> {
    let size = match imagesize::blob_size(start) {
        Ok(size) => size,
        // A JPEG may have a preview and the data of its camera before its size.
        Err(_) if start.starts_with(b"\xff\xd8") => {
            imagesize::blob_size(&decoded(data, JPEG_START_BYTES)).ok()?
        }
        Err(_) => return None,
    };
    Some((size.width as u64, size.height as u64))
}

/// Returns the bytes a second of a WAVE file, by its header.
fn wave_rate(start: &[u8]) -> u64 {
    let rate = match start.get(12..32) {
        Some([b'f', b'm', b't', b' ', .., a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => 0,
    };
    u64::from(rate).clamp(AUDIO_BYTES_A_SECOND, MOST_AUDIO_BYTES_A_SECOND)
}

/// Returns whether these bytes are text. The last character may be cut.
fn is_text(start: &[u8]) -> bool {
    let valid = match str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(start.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !valid.contains('\0')
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Enough for the size of a PNG, GIF or WebP and of most JPEGs, and for the header of a WAVE file.
const START_BYTES: usize = 1_024;

/// 64 KiB. The camera's data in a JPEG is one segment, which has at most this many bytes.
const JPEG_START_BYTES: usize = 65_536 + START_BYTES;

/// The longest scheme that providers know is `https`.
const MOST_SCHEME_BYTES: usize = 8;

/// A shorter string is the id of a file, not a file.
const MOST_NAME_BYTES: usize = 64;

/// Newer models see 32 × 32 pixels as a patch, and charge 1.2 tokens for each: 1,229 for 1,024 × 1,024. Older ones with
/// tiles (gpt-4o) charge less (765), the smallest with patches (gpt-4.1-nano) up to twice as much.
/// <https://platform.openai.com/docs/guides/images-vision#calculating-costs>,
/// <https://huggingface.co/datasets/JOHNISKING/image-token-cost>
const OPENAI_PATCH: u64 = 32;

/// `"detail": "low"` scales down to 512 × 512.
const OPENAI_LOW_PATCHES: u64 = 256;

/// `"detail": "high"` scales down to this. It is also the bound of a picture of unknown size, 3,000 tokens.
const OPENAI_HIGH_PATCHES: u64 = 2_500;

/// `"detail": "original"` scales down to this, and newer models take it for `auto`.
/// <https://platform.openai.com/docs/guides/images-vision#model-sizing-behavior>
const OPENAI_MOST_PATCHES: u64 = 10_000;

/// A token for each 28 × 28 pixels, as for each 750 pixels before.
/// <https://platform.claude.com/docs/en/build-with-claude/vision>
const ANTHROPIC_PATCH: u64 = 28;

/// Newer models scale down to 2,576 pixels a side and this many tokens, older ones to 1,600.
const ANTHROPIC_MOST_PATCHES: u64 = 4_784;

/// The default of Gemini 3 and later, for any size. <https://ai.google.dev/gemini-api/docs/media-resolution>
const GEMINI_PICTURE_TOKENS: u64 = 1_120;

/// <https://ai.google.dev/gemini-api/docs/tokens>
const GEMINI_AUDIO_TOKENS_A_SECOND: u64 = 32;

/// A token for each 100 ms. <https://platform.openai.com/docs/guides/realtime-costs>
const OPENAI_AUDIO_TOKENS_A_SECOND: u64 = 10;

/// Gemini's, with sound. <https://ai.google.dev/gemini-api/docs/tokens>
const VIDEO_TOKENS_A_SECOND: u64 = 263;

/// 32 kbit/s, the least at which speech is stored as MP3. Only decoding shows the length of compressed sound.
const AUDIO_BYTES_A_SECOND: u64 = 4_000;

/// 192 kHz, two channels, 32 bits. A larger rate in a header is clamped to this.
const MOST_AUDIO_BYTES_A_SECOND: u64 = 1_536_000;

/// 400 kbit/s, little for a video of 360 lines.
const VIDEO_BYTES_A_SECOND: u64 = 50_000;

/// A page has 1,500 to 3,000 tokens of text, and is seen as a picture too.
/// <https://platform.claude.com/docs/en/build-with-claude/pdf-support#estimate-your-costs>
const PAGE_TOKENS: u64 = 3_000;

/// The default of Gemini 3 and later. <https://ai.google.dev/gemini-api/docs/media-resolution>
const GEMINI_PAGE_TOKENS: u64 = 560;

/// A page of text with its share of the fonts. Only unpacking a PDF shows its pages.
const BYTES_OF_A_PAGE: u64 = 20_000;

/// The most pages that Anthropic's models with 200,000 tokens of context accept. Larger files are mostly pictures.
const MOST_PAGES: u64 = 100;

/// The assumed length of sound or video at an address or by its id: a minute.
const UNKNOWN_SECONDS: u64 = 60;

/// The assumed pages of a file at an address or by its id.
const UNKNOWN_PAGES: u64 = 10;
