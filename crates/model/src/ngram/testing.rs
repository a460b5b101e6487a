//! Texts for tests.

/// Lines of words as ids, each line after `bos`, if there is one, and before id 2. The id of a word
/// is its index in `names`, to which new words are appended.
pub(crate) fn numbered(lines: &[Vec<u8>], mut names: Vec<u8>, bos: Option<u32>) -> (Vec<u32>, Vec<u8>) {
    let mut tokens = Vec::new();
    for line in lines {
        tokens.extend(bos);
        for &name in line {
            let known = names.iter().position(|&other| other == name);
            tokens.push(known.unwrap_or(names.len()) as u32);
            if known.is_none() {
                names.push(name);
            }
        }
        tokens.push(2);
    }
    (tokens, names)
}
