//! Bytes as readers of packet dumps write them: hexadecimal, blanks between.

use anyhow::{Context, Result, ensure};

pub fn read(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|character| !character.is_whitespace() && *character != ':')
        .map(|character| character.to_digit(16).with_context(|| format!("`{character}` is not hexadecimal")))
        .collect::<Result<_>>()?;
    ensure!(digits.len().is_multiple_of(2), "`{text}` has half a byte");
    digits.chunks(2).map(|pair| Ok(u8::try_from(pair[0] << 4 | pair[1])?)).collect()
}

pub fn write(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn mac(text: &str) -> Result<[u8; 6]> {
    read(text)?.try_into().ok().with_context(|| format!("`{text}` is no MAC address"))
}
