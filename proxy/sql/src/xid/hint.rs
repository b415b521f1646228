//! XID hints: `/*+ XID('x') */` after the verb, and sqlcommenter comments at the end.

use memchr::memmem;

use crate::{
    lex::{Comment, CommentKind, is_blank, is_ident},
    types::{Refusal, Span, XidHint},
};

/// The longest XID in bytes.
const MAX_XID_BYTES: usize = 128;

/// Whether a text is an XID: 1 to [`MAX_XID_BYTES`] characters of `A-Z a-z 0-9 . : _ -`.
pub(crate) fn is_valid_xid(text: &[u8]) -> bool {
    (1..=MAX_XID_BYTES).contains(&text.len())
        && text.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'_' | b'-'))
}

/// The XID hint of a statement of `tokens` tokens.
pub(crate) fn find(sql: &[u8], comments: &[Comment], tokens: usize) -> Result<Option<XidHint>, Refusal> {
    let mut found: Option<XidHint> = None;
    for comment in comments {
        let hint = match comment.kind {
            CommentKind::Hint => optimizer_hint(sql, comment)?,
            CommentKind::Block if tokens > 0 && comment.tokens_before >= tokens => {
                sqlcommenter(sql, comment)?
            }
            _ => None,
        };
        if hint.is_none() && names_transaction(sql.get(comment.span.clone()).unwrap_or_default()) {
            // Without an error the statement would run outside of the transaction
            return Err(Refusal::for_atone(
                "a comment names a global transaction and is no hint: expected /* key='value',xid='…' */ at the end, \
                 or /*+ XID('…') */ right after the first word",
            ));
        }
        if hint.is_some() && found.is_some() {
            return Err(Refusal::for_atone("the statement has several XID hints"));
        }
        found = found.or(hint);
    }
    Ok(found)
}

/// Whether a comment has `xid=` or `XID(` and, quoted or not, an XID as the coordinator makes them: 8 and 16
/// hexadecimal digits. An `xid` of another form belongs to some other software.
fn names_transaction(comment: &[u8]) -> bool {
    let hex = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
    let names = |rest: &[u8]| {
        let rest = rest.trim_ascii_start();
        let Some(rest) = rest.strip_prefix(b"=").or_else(|| rest.strip_prefix(b"(")) else { return false };
        let rest = rest.trim_ascii_start();
        let rest = rest.strip_prefix(b"'").or_else(|| rest.strip_prefix(b"\"")).unwrap_or(rest);
        let Some((number, rest)) = rest.split_at_checked(8) else { return false };
        let rest = rest.strip_prefix(b":").or_else(|| rest.strip_prefix(b"%3A")).unwrap_or_default();
        hex(number) && rest.get(..16).is_some_and(hex)
    };
    memchr::memchr2_iter(b'x', b'X', comment)
        .filter_map(|at| comment.get(at..)?.split_at_checked(3))
        .any(|(word, rest)| word.eq_ignore_ascii_case(b"xid") && names(rest))
}

fn xid(text: Vec<u8>, span: Span) -> Result<Option<XidHint>, Refusal> {
    if !is_valid_xid(&text) {
        return Err(Refusal::for_atone("the XID of the hint is not valid"));
    }
    Ok(String::from_utf8(text).ok().map(|xid| XidHint { xid, span }))
}

/// `XID('x')` among the hints of `/*+ … */`.
fn optimizer_hint(sql: &[u8], comment: &Comment) -> Result<Option<XidHint>, Refusal> {
    let malformed = || Refusal::for_atone("the XID hint is malformed: expected /*+ XID('…') */");
    let (start, end) = (comment.span.start + 3, comment.span.end - 2);
    let text = sql.get(start..end).unwrap_or_default();
    let mut found = None;
    let mut at = 0;
    while let Some(name) = find_name(text, at) {
        at = name + 3;
        while text.get(at).copied().is_some_and(is_blank) {
            at += 1;
        }
        if text.get(at) != Some(&b'(') {
            continue;
        }
        let close = at + memchr::memchr(b')', &text[at..]).ok_or_else(malformed)?;
        let argument = text[at + 1..close].trim_ascii();
        let value = match argument {
            [b'\'', value @ .., b'\''] | [b'"', value @ .., b'"'] => value.to_vec(),
            _ => return Err(malformed()),
        };
        if found.is_some() {
            return Err(Refusal::for_atone("the statement has several XID hints"));
        }
        at = close + 1;
        let alone = text[..name].trim_ascii().is_empty() && text[at..].trim_ascii().is_empty();
        let span = if alone { comment.span.clone() } else { start + name..start + at };
        found = xid(value, span)?;
    }
    if found.is_some() && comment.tokens_before != 1 {
        return Err(Refusal::for_atone("the XID hint must stand right after the statement's first word"));
    }
    Ok(found)
}

/// The next `XID` that is a whole word outside of quotes.
fn find_name(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < text.len() {
        let byte = text[at];
        if matches!(byte, b'\'' | b'"' | b'`') {
            at += 1 + memchr::memchr(byte, &text[at + 1..]).map_or(text.len(), |len| len + 1);
        } else if is_ident(byte) {
            let len = text[at..].iter().take_while(|&&byte| is_ident(byte)).count();
            if text[at..at + len].eq_ignore_ascii_case(b"XID") {
                return Some(at);
            }
            at += len;
        } else {
            at += 1;
        }
    }
    None
}

/// `/* key='value',xid='…' */`, with URL-encoded values. A comment of another form is no hint, or an error if it
/// looks much like one.
fn sqlcommenter(sql: &[u8], comment: &Comment) -> Result<Option<XidHint>, Refusal> {
    let text = sql.get(comment.span.start + 2..comment.span.end - 2).unwrap_or_default();
    if memmem::find(text, b"xid").is_none() {
        return Ok(None);
    }
    let mut found = None;
    let mut rest = text.trim_ascii();
    loop {
        let Some((key, value, after)) = pair(rest) else {
            // A comment of another kind, or a malformed list
            return if rest.starts_with(b"xid=") || found.is_some() {
                Err(Refusal::for_atone(
                    "the comment with the XID is malformed: expected /* key='value',xid='…' */",
                ))
            } else {
                Ok(None)
            };
        };
        if key == b"xid" {
            if found.is_some() {
                return Err(Refusal::for_atone("the statement has several XID hints"));
            }
            let value =
                url_decode(value).ok_or_else(|| Refusal::for_atone("the XID of the hint is not valid"))?;
            found = xid(value, comment.span.clone())?;
        }
        rest = after.trim_ascii();
        match rest {
            [] => return Ok(found),
            [b',', more @ ..] => rest = more.trim_ascii(),
            _ => {
                return if found.is_some() {
                    Err(Refusal::for_atone(
                        "the comment with the XID is malformed: expected /* key='value',xid='…' */",
                    ))
                } else {
                    Ok(None)
                };
            }
        }
    }
}

/// `key='value'` and what follows it.
fn pair(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let equals = memchr::memchr(b'=', text)?;
    let key = text[..equals].trim_ascii();
    let value = text[equals + 1..].trim_ascii_start().strip_prefix(b"'")?;
    let mut end = 0;
    loop {
        match value.get(end)? {
            b'\\' => end += 2,
            b'\'' => break,
            _ => end += 1,
        }
    }
    if key.is_empty() || key.iter().any(|&byte| is_blank(byte) || byte == b'\'') {
        return None;
    }
    Some((key, &value[..end], &value[end + 1..]))
}

fn url_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len().min(MAX_XID_BYTES));
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|&digit| char::from(digit).to_digit(16));
            let (high, low) = (digit()?, digit()?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}
