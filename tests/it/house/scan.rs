//! Reads Rust source as tokens, just well enough to see which paths a file names and on which lines.
//!
//! It knows comments, strings, inline modules and nested `use` groups. It does not know macros or types, resolves no
//! names brought in by `use`, and never needs to: a name must be brought in before it can be used.

/// A token and the line it stands on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// An identifier, a keyword or a number.
    Word(String),
    /// `::`
    Colons,
    /// Anything else, one character at a time.
    Sign(char),
}

/// A path as written, with `self` and `super` resolved: `crate`, `kernel`, `Kernel`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

impl Token {
    fn is_sign(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }

    fn is_word(&self, word: &str) -> bool {
        self.word() == Some(word)
    }

    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Colons | Kind::Sign(_) => None,
        }
    }
}

/// The tokens of a file; comments and the text of literals are gone.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut at, mut line, mut tokens) = (0, 1, Vec::new());
    while at < chars.len() {
        let end = at + token_length(&chars[at..]);
        let first = chars[at];
        let kind = if is_word_part(first) && !chars[at..end].contains(&'"') {
            Some(Kind::Word(chars[at..end].iter().collect::<String>().trim_start_matches("r#").to_owned()))
        } else if chars[at..end] == [':', ':'] {
            Some(Kind::Colons)
        } else if end == at + 1 && !first.is_whitespace() {
            Some(Kind::Sign(first))
        } else {
            None
        };
        tokens.extend(kind.map(|kind| Token { line, kind }));
        line += chars[at..end].iter().filter(|&&char| char == '\n').count();
        at = end;
    }
    tokens
}

/// How many characters the token, literal, comment or blank at the front of `rest` has.
fn token_length(rest: &[char]) -> usize {
    let until =
        |stop: &dyn Fn(usize) -> bool, from: usize| (from..rest.len()).find(|&at| stop(at)).unwrap_or(rest.len());
    match rest {
        ['/', '/', ..] => until(&|at| rest[at] == '\n', 2),
        ['/', '*', ..] => block_comment_length(rest),
        ['"', ..] => string_length(rest),
        ['b' | 'c', '"', ..] => 1 + string_length(&rest[1..]),
        ['r', '"' | '#', ..] => raw_length(rest, 1),
        ['b' | 'c', 'r', '"' | '#', ..] => raw_length(rest, 2),
        ['\'', '\\', ..] => until(&|at| rest[at] == '\'', 3) + 1,
        ['\'', _, '\'', ..] => 3,
        [':', ':', ..] => 2,
        [first, ..] if is_word_part(*first) => until(&|at| !is_word_part(rest[at]), 1),
        _ => 1,
    }
}

fn is_word_part(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn string_length(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// A raw string after `prefix` letters, or a raw identifier.
fn raw_length(rest: &[char], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|&&char| char == '#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&'"') {
        return open + rest[open..].iter().take_while(|&&char| is_word_part(char)).count();
    }
    let closes =
        |at: usize| rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    (open + 1..rest.len()).find(|&at| closes(at)).map_or(rest.len(), |at| at + 1 + hashes)
}

fn block_comment_length(rest: &[char]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at
}

/// The tokens without the items under `#[cfg(test)]`, and the names of the file modules that went with them.
pub(crate) fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut test_files, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        if !is_cfg_test(&tokens[at..]) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let item = &tokens[at..at + item_length(&tokens[at..])];
        if let [.., keyword, name, end] = item
            && keyword.is_word("mod")
            && end.is_sign(';')
        {
            test_files.extend(name.word().map(str::to_owned));
        }
        at += item.len();
    }
    (kept, test_files)
}

fn is_cfg_test(tokens: &[Token]) -> bool {
    match tokens {
        [hash, open, cfg, paren, test, ..] => {
            hash.is_sign('#') && open.is_sign('[') && cfg.is_word("cfg") && paren.is_sign('(') && test.is_word("test")
        }
        _ => false,
    }
}

/// From an attribute to the end of the item below it: a `;` or a closed brace outside all brackets.
fn item_length(tokens: &[Token]) -> usize {
    let mut depth = 0i32;
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']') => depth -= 1,
            Kind::Sign('}') => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            Kind::Sign(';') if depth == 0 => return at + 1,
            Kind::Sign(_) | Kind::Word(_) | Kind::Colons => {}
        }
    }
    tokens.len()
}

/// Every path in a file that is module `module` of its crate (`["kernel", "parse"]`), groups taken apart.
pub(crate) fn paths(tokens: &[Token], module: &[String]) -> Vec<Path> {
    let mut paths = Vec::new();
    let mut inline: Vec<(String, usize)> = Vec::new();
    let (mut at, mut depth) = (0, 0);
    while at < tokens.len() {
        match &tokens[at].kind {
            Kind::Word(word) if word == "mod" && tokens.get(at + 2).is_some_and(|token| token.is_sign('{')) => {
                inline.push((tokens[at + 1].word().unwrap_or_default().to_owned(), depth));
                at += 2;
            }
            Kind::Word(_) => {
                let here: Vec<String> = module.iter().chain(inline.iter().map(|(name, _)| name)).cloned().collect();
                let first = paths.len();
                at = path_tree(tokens, at, &[], &mut paths);
                paths[first..].iter_mut().for_each(|path| resolve(path, &here));
            }
            Kind::Sign('{') => (at, depth) = (at + 1, depth + 1),
            Kind::Sign('}') => {
                (at, depth) = (at + 1, depth.saturating_sub(1));
                inline.pop_if(|(_, opened_at)| *opened_at == depth);
            }
            Kind::Sign(_) | Kind::Colons => at += 1,
        }
    }
    paths
}

/// Reads `a::b`, `a::{b, c::d}` or `a::*` from `at`, prefixed; returns where it ends.
fn path_tree(tokens: &[Token], at: usize, prefix: &[String], paths: &mut Vec<Path>) -> usize {
    let Some(token) = tokens.get(at) else { return at };
    match &token.kind {
        Kind::Word(word) => {
            let segments = [prefix, std::slice::from_ref(word)].concat();
            let goes_on = tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Colons)
                && tokens
                    .get(at + 2)
                    .is_some_and(|next| next.word().is_some() || next.is_sign('{') || next.is_sign('*'));
            if goes_on {
                return path_tree(tokens, at + 2, &segments, paths);
            }
            paths.push(Path { line: token.line, segments });
            at + 1
        }
        Kind::Sign('{') => {
            let mut at = at + 1;
            while tokens.get(at).is_some_and(|token| !token.is_sign('}')) {
                let before = at;
                at = path_tree(tokens, at, prefix, paths);
                // An alias, a comma: nothing that names a path.
                while tokens.get(at).is_some_and(|token| !token.is_sign(',') && !token.is_sign('}')) {
                    at += 1;
                }
                at += usize::from(tokens.get(at).is_some_and(|token| token.is_sign(',')) || at == before);
            }
            at + 1
        }
        Kind::Sign('*') => {
            paths.push(Path { line: token.line, segments: [prefix, &["*".to_owned()]].concat() });
            at + 1
        }
        Kind::Sign(_) | Kind::Colons => at + 1,
    }
}

/// `super` and `self` at the front become the path from `crate`.
fn resolve(path: &mut Path, here: &[String]) {
    let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
    let is_self = path.segments.len() > 1 && path.segments[0] == "self";
    if supers == 0 && !is_self {
        return;
    }
    let kept = here.len().saturating_sub(supers);
    let rest = path.segments[supers.max(usize::from(is_self))..].iter();
    let resolved = std::iter::once("crate").chain(here[..kept].iter().map(String::as_str));
    path.segments = resolved.map(str::to_owned).chain(rest.cloned()).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, module: &[&str], expected: &[&str]) {
        let module: Vec<String> = module.iter().map(|&name| name.to_owned()).collect();
        let (kept, _) = without_tests(&tokens(text));
        let found: Vec<String> = paths(&kept, &module)
            .into_iter()
            .filter(|path| path.segments.len() > 1)
            .map(|path| format!("{} {}", path.line, path.segments.join("::")))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn use_groups_are_taken_apart() {
        check(
            "use crate::{\n  a::{self, B as C},\n  d::*,\n};\nuse std::time::{Duration, Instant};",
            &["x"],
            &["2 crate::a::self", "2 crate::a::B", "3 crate::d::*", "5 std::time::Duration", "5 std::time::Instant"],
        );
    }

    #[test]
    fn supers_are_resolved_through_inline_modules() {
        check(
            "use super::y::Z; mod inner { fn f() { super::g(); super::super::h::i() } }\nuse super::k;",
            &["x", "w"],
            &["1 crate::x::y::Z", "1 crate::x::w::g", "1 crate::x::h::i", "2 crate::x::k"],
        );
        check("use super::grid::Grid;", &["view"], &["1 crate::grid::Grid"]);
        check("use self::parse::f;", &["kernel"], &["1 crate::kernel::parse::f"]);
    }

    #[test]
    fn comments_strings_and_lifetimes_hide_nothing_and_show_nothing() {
        check(
            "// crate::a::b\n/* crate::a /* nested */ crate::c */ let s = \"crate::d \\\" x\"; let r = r#\"crate::e\"#;\n\
             let c = '\"'; fn f<'a>(x: &'a str) { crate::seen::f::<u32>('\\'', b\"crate::g\") }",
            &["x"],
            &["3 crate::seen::f"],
        );
    }

    #[test]
    fn tests_are_left_out() {
        let text =
            "#[cfg(test)]\nmod tests { use crate::a::B; fn f() {} }\n#[cfg(test)]\nmod oracle;\nuse crate::c::D;";
        check(text, &["x"], &["5 crate::c::D"]);
        assert_eq!(without_tests(&tokens(text)).1, ["oracle"]);
    }
}
