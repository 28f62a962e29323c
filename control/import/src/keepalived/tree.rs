//! keepalived's words as blocks.

use super::text::{Line, Token};
use crate::ImportError;
use crate::left_out::Place;

/// How deep blocks may lie in one another.
const DEPTH: usize = 32;

/// A line, and the block that it opens, if it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// All of it, to the end of its block.
    pub(super) place: Place,
    /// At least one.
    pub(super) words: Vec<String>,
    /// Empty also when there is no block.
    pub(super) block: Vec<Node>,
}

impl Node {
    pub(super) fn name(&self) -> &str {
        &self.words[0]
    }

    /// Its words behind the first one.
    pub(super) fn arguments(&self) -> Vec<&str> {
        self.words[1..].iter().map(String::as_str).collect()
    }

    /// As it is written, without its block.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// The blocks of all lines.
pub(super) fn nodes(lines: &[Line]) -> Result<Vec<Node>, ImportError> {
    // The innermost block last.
    let mut open: Vec<Node> = Vec::new();
    let mut top: Vec<Node> = Vec::new();
    for line in lines {
        let fail = |why: &str| ImportError { place: line.place.clone(), why: why.to_owned() };
        // Whether the last node of the innermost block is of this line, so that words go on in it.
        let mut fresh = false;
        for token in &line.tokens {
            match token {
                Token::Word(word) => {
                    let nodes = open.last_mut().map_or(&mut top, |node| &mut node.block);
                    match nodes.last_mut().filter(|_| fresh) {
                        Some(node) => node.words.push(word.clone()),
                        None => {
                            let (words, block) = (vec![word.clone()], Vec::new());
                            nodes.push(Node { place: line.place.clone(), words, block });
                        }
                    }
                    fresh = true;
                }
                Token::Open => {
                    let nodes = open.last_mut().map_or(&mut top, |node| &mut node.block);
                    let node = nodes.pop().ok_or_else(|| fail("`{` without a word before it"))?;
                    if open.len() == DEPTH {
                        return Err(fail("blocks lie too deep in one another"));
                    }
                    open.push(node);
                    fresh = false;
                }
                Token::Close => {
                    let mut node = open.pop().ok_or_else(|| fail("`}` without a `{` before it"))?;
                    // What begins in another file is named by its first line only.
                    if node.place.file == line.place.file {
                        node.place.last = line.place.last;
                    }
                    open.last_mut().map_or(&mut top, |node| &mut node.block).push(node);
                    fresh = false;
                }
            }
        }
    }
    match open.pop() {
        Some(Node { place, .. }) => {
            Err(ImportError { place, why: "this block has no end: a `}` is missing".to_owned() })
        }
        None => Ok(top),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::files::Disk;
    use crate::keepalived::text::Reader;

    fn read(text: &str) -> Result<Vec<Node>, ImportError> {
        let mut reader = Reader::new(&Disk, Some("high"));
        reader.read(Path::new("k.conf"), text, 0)?;
        nodes(&reader.lines)
    }

    fn shown(nodes: &[Node]) -> String {
        let each = |node: &Node| match node.block.is_empty() {
            true => format!("{}:{}", node.place.line, node.text()),
            false => {
                format!("{}-{}:{}({})", node.place.line, node.place.last, node.text(), shown(&node.block))
            }
        };
        nodes.iter().map(each).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn blocks_open_on_the_same_line_or_the_next() {
        let text = "a 1 { # c\n  b \"x y\" ! d\n  c\n  {\n d 2 } }\ne { f 1 }\n";
        assert_eq!(shown(&read(text).unwrap()), "1-5:a 1(2:b x y 3-5:c(5:d 2)) 6-6:e(6:f 1)");
    }

    #[test]
    fn definitions_and_conditions_are_put_in() {
        let text = "$IP=10.0.0.1\n$LONG=a \\\n  b\n@high x $IP\n@low y\n@^low z ${IP}0 $LONG $NONE\n";
        assert_eq!(shown(&read(text).unwrap()), "4:x 10.0.0.1 6:z 10.0.0.10 a b $NONE");
    }

    #[test]
    fn blocks_without_end_or_beginning_are_named() {
        for (text, line, what) in
            [("a {\nb\n", 1, "no end"), ("a\n}\n", 2, "without a `{`"), ("{\n", 1, "without a word")]
        {
            let error = read(text).unwrap_err();
            assert_eq!(error.place.line, line, "{text}");
            assert!(error.why.contains(what), "{error}");
        }
        assert!(read(&"a {".repeat(40)).unwrap_err().why.contains("too deep"));
    }

    #[test]
    fn definitions_that_grow_without_end_are_refused() {
        let grow = (0..40).map(|n| format!("$A{}=$A{n}$A{n}\n", n + 1)).collect::<String>();
        assert!(read(&format!("$A0=xx\n{grow}")).unwrap_err().why.contains("bytes"));
    }

    #[test]
    fn files_that_include_themselves_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.conf");
        std::fs::write(&path, "include k.co*\na 1\n").unwrap();
        let mut reader = Reader::new(&Disk, None);
        let error = reader.read(&path, "include k.co*\n", 0).unwrap_err();
        assert!(error.why.contains("deep"), "{error}");
        std::fs::write(&path, "b 2\n").unwrap();
        let mut reader = Reader::new(&Disk, None);
        reader.read(&path, "include k.co*\na 1\n", 0).unwrap();
        assert_eq!(shown(&nodes(&reader.lines).unwrap()), "1:b 2 2:a 1");
    }
}
