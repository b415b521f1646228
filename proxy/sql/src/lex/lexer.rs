//! Bytes to tokens, with exact byte spans.
//!
//! The lexer works on bytes: every byte from 0x80 on belongs to an identifier. That holds for UTF-8; texts in other
//! charsets are decoded first ([`crate::Charset`]).

use memchr::{memchr, memchr2, memmem};

use super::{
    mode::Mode,
    token::{Comment, CommentKind, Executable, Kind, LexError, Lexed, Token},
};

/// Digits of a version in an executable comment, from 10.0 on: two each for major, minor and patch.
const VERSION_DIGITS: usize = 6;
/// No server has this version, 90.0.0, or a later one.
const BEYOND_SERVERS: &[u8] = b"900000";

/// Splits the whole text.
pub(crate) fn lex(sql: &[u8], mode: Mode, executable: Executable) -> Result<Lexed, LexError> {
    if u32::try_from(sql.len()).is_err() {
        return Err("is longer than 4 GiB");
    }
    let mut lexer = Lexer::new(sql, mode, executable);
    let mut lexed = Lexed { tokens: Vec::with_capacity(sql.len().min(4096) / 4 + 4), comments: Vec::new() };
    while let Some(token) = lexer.next(lexed.tokens.len(), &mut lexed.comments)? {
        lexed.tokens.push(token);
    }
    Ok(lexed)
}

/// Reads token after token.
pub(crate) struct Lexer<'a> {
    sql: &'a [u8],
    mode: Mode,
    executable: Executable,
    pos: usize,
    /// End of the code of the executable comment that is being read.
    inlined_until: Option<usize>,
    /// The token before, and its end: after a dot or an identifier `.5` and `1e5` are names.
    previous: Option<(Kind, usize)>,
}

/// Blanks as the server's lexer knows them.
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

pub(crate) fn is_ident(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(sql: &'a [u8], mode: Mode, executable: Executable) -> Self {
        Self { sql, mode, executable, pos: 0, inlined_until: None, previous: None }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.get(self.pos + ahead).copied()
    }

    /// The next token, or `None` at the end. Comments before it are added to `comments`.
    pub(crate) fn next(
        &mut self,
        tokens_before: usize,
        comments: &mut Vec<Comment>,
    ) -> Result<Option<Token>, LexError> {
        self.skip_blanks_and_comments(tokens_before, comments)?;
        let start = self.pos;
        let mark = self.mark().unwrap_or_default();
        self.pos += usize::from(mark);
        let Some(first) = self.peek(0) else { return Ok(None) };
        let kind = self.token(first)?;
        if let Some(end) = self.inlined_until
            && self.pos > end
        {
            return Err("has an executable comment that ends inside of a token");
        }
        self.previous = Some((kind, self.pos));
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(self.pos)) else {
            return Err("is longer than 4 GiB");
        };
        Ok(Some(Token { kind, mark, start, end }))
    }

    /// The length of the mark that comes next.
    fn mark(&self) -> Option<u16> {
        let marks = self.mode.marks?;
        let len = marks.len_at(self.sql.get(self.pos..)?)?;
        u16::try_from(len).ok()
    }

    fn skip_blanks_and_comments(
        &mut self,
        tokens_before: usize,
        comments: &mut Vec<Comment>,
    ) -> Result<(), LexError> {
        loop {
            while self.peek(0).is_some_and(is_blank) {
                self.pos += 1;
            }
            if self.inlined_until == Some(self.pos) {
                self.pos += 2;
                self.inlined_until = None;
                continue;
            }
            if self.mark().is_some() {
                return Ok(());
            }
            let start = self.pos;
            let kind = match (self.peek(0), self.peek(1)) {
                (Some(b'#'), _) => CommentKind::Line,
                (Some(b'-'), Some(b'-')) => match self.peek(2) {
                    None => CommentKind::Line,
                    Some(byte) if byte <= b' ' || byte == 0x7f => CommentKind::Line,
                    // Some single-byte charsets have a control character there, which makes it a comment.
                    Some(0x80..) => return Err("has -- before a character that is not ASCII"),
                    Some(_) => return Ok(()),
                },
                (Some(b'/'), Some(b'*')) => match (self.peek(2), self.peek(3)) {
                    (Some(b'!'), _) | (Some(b'M'), Some(b'!')) => CommentKind::Executable,
                    (Some(b'+'), _) => CommentKind::Hint,
                    _ => CommentKind::Block,
                },
                _ => return Ok(()),
            };
            if self.inlined_until.is_some() {
                return Err("has a comment inside of an executable comment");
            }
            let rest = self.sql.get(start..).unwrap_or_default();
            let end = match kind {
                CommentKind::Line => start + memchr(b'\n', rest).map_or(rest.len(), |at| at + 1),
                _ => {
                    let body = rest.get(2..).unwrap_or_default();
                    start + 4 + memmem::find(body, b"*/").ok_or("has a comment that is not closed")?
                }
            };
            let kind = if kind == CommentKind::Executable && self.is_beyond_servers(start, end)? {
                CommentKind::Block
            } else {
                kind
            };
            comments.push(Comment { kind, span: start..end, tokens_before });
            self.pos = end;
            if kind == CommentKind::Executable {
                let code = self.check_executable(start, end)?;
                if self.executable == Executable::Inline {
                    self.pos = code;
                    self.inlined_until = Some(end - 2);
                }
            }
        }
    }

    /// Whether an executable comment asks for a version that no server has: it is a plain comment then.
    fn is_beyond_servers(&self, start: usize, end: usize) -> Result<bool, LexError> {
        let text = self.sql.get(start..end).unwrap_or_default();
        let version = text.strip_prefix(b"/*M!").or_else(|| text.strip_prefix(b"/*!")).unwrap_or_default();
        let digits = version.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let beyond = digits == VERSION_DIGITS && version >= BEYOND_SERVERS;
        if beyond && memmem::find(version, b"/*").is_some() {
            return Err("has nested comments");
        }
        Ok(beyond)
    }

    /// Where the code of an executable comment begins. The comment must end at the same place for servers that take
    /// it as code and for those that pass over it.
    fn check_executable(&self, start: usize, end: usize) -> Result<usize, LexError> {
        let code_end = end - 2;
        let mut code = start + if self.sql.get(start + 2) == Some(&b'!') { 3 } else { 4 };
        let digits = self
            .sql
            .get(code..code_end)
            .unwrap_or_default()
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if !matches!(digits, 0 | 5 | 6) {
            return Err("has an executable comment with an odd version number");
        }
        code += digits;
        let text = self.sql.get(code..code_end).ok_or("has a malformed executable comment")?;
        if memmem::find(text, b"/*").is_some() {
            return Err("has nested comments");
        }
        let mut inner = Lexer::new(text, self.mode, Executable::Skip);
        let mut comments = Vec::new();
        while let Some(token) = inner.next(0, &mut comments)? {
            if token.kind == Kind::Placeholder {
                return Err("has a placeholder inside of an executable comment");
            }
        }
        if !comments.is_empty() {
            return Err("has a comment inside of an executable comment");
        }
        Ok(code)
    }

    /// Reads the token that begins with `first`, and moves after it.
    fn token(&mut self, first: u8) -> Result<Kind, LexError> {
        match first {
            b'\'' => self.string(b'\''),
            b'"' if self.mode.ansi_quotes => self.quoted(b'"'),
            b'"' => self.string(b'"'),
            b'`' => self.quoted(b'`'),
            b'n' | b'N' if self.peek(1) == Some(b'\'') => {
                self.pos += 1;
                self.string(b'\'')
            }
            b'x' | b'X' | b'b' | b'B' if self.peek(1) == Some(b'\'') => self.bits(first),
            b'@' => self.variable(),
            b'0'..=b'9' => self.number_or_word(),
            b'.' if self.peek(1).is_some_and(|byte| byte.is_ascii_digit()) && !self.after_name() => {
                self.fraction();
                self.exponent();
                Ok(Kind::Number)
            }
            // MySQL 9 may read it as the beginning of a dollar-quoted string.
            b'$' => Err("has an unquoted name that begins with $: quote the name"),
            _ if is_ident(first) => self.word(),
            _ => self.operator(first),
        }
    }

    /// Whether an identifier ends right here, so that a dot continues it.
    fn after_name(&self) -> bool {
        matches!(self.previous, Some((Kind::Word | Kind::Quoted | Kind::SysVar, end)) if end == self.pos)
    }

    fn string(&mut self, quote: u8) -> Result<Kind, LexError> {
        self.skip_quoted(quote, !self.mode.no_backslash_escapes)?;
        Ok(Kind::Str)
    }

    fn quoted(&mut self, quote: u8) -> Result<Kind, LexError> {
        self.skip_quoted(quote, false)?;
        Ok(Kind::Quoted)
    }

    /// Moves from the opening quote to after the closing one. A doubled quote is part of the text.
    fn skip_quoted(&mut self, quote: u8, backslash: bool) -> Result<(), LexError> {
        let mut at = self.pos + 1;
        loop {
            let rest = self.sql.get(at..).unwrap_or_default();
            let found = if backslash { memchr2(quote, b'\\', rest) } else { memchr(quote, rest) };
            let Some(found) = found else {
                return Err("has a quote that is not closed");
            };
            let escaped = rest[found] == b'\\' || rest.get(found + 1) == Some(&quote);
            at += found + if escaped { 2 } else { 1 };
            if !escaped {
                self.pos = at;
                return Ok(());
            }
        }
    }

    fn bits(&mut self, first: u8) -> Result<Kind, LexError> {
        let start = self.pos + 2;
        let rest = self.sql.get(start..).unwrap_or_default();
        let len = memchr(b'\'', rest).ok_or("has a quote that is not closed")?;
        let digits = &rest[..len];
        let valid = if first.eq_ignore_ascii_case(&b'x') {
            digits.iter().all(u8::is_ascii_hexdigit)
        } else {
            digits.iter().all(|byte| matches!(byte, b'0' | b'1'))
        };
        if !valid {
            return Err("has a malformed hexadecimal or bit literal");
        }
        self.pos = start + len + 1;
        Ok(Kind::Bits)
    }

    fn variable(&mut self) -> Result<Kind, LexError> {
        self.pos += 1;
        match self.peek(0) {
            Some(b'@') => {
                self.pos += 1;
                if self.peek(0) == Some(b'`') {
                    self.quoted(b'`')?;
                } else if self.peek(0).is_some_and(is_ident) {
                    self.word()?;
                } else {
                    return Err("has @@ without a name");
                }
                Ok(Kind::SysVar)
            }
            Some(quote @ (b'\'' | b'"' | b'`')) => {
                let string = quote != b'`' && !(quote == b'"' && self.mode.ansi_quotes);
                self.skip_quoted(quote, string && !self.mode.no_backslash_escapes)?;
                Ok(Kind::UserVar)
            }
            _ => {
                while self.peek(0).is_some_and(|byte| is_ident(byte) || byte == b'.') {
                    self.pos += 1;
                }
                Ok(Kind::UserVar)
            }
        }
    }

    fn number_or_word(&mut self) -> Result<Kind, LexError> {
        let after_dot = matches!(self.previous, Some((Kind::Punct(b'.'), end)) if end == self.pos);
        if after_dot {
            return self.word();
        }
        let start = self.pos;
        if self.peek(0) == Some(b'0') && matches!(self.peek(1), Some(b'x' | b'b')) {
            let hex = self.peek(1) == Some(b'x');
            let mut end = start + 2;
            while self
                .sql
                .get(end)
                .is_some_and(|byte| if hex { byte.is_ascii_hexdigit() } else { matches!(byte, b'0' | b'1') })
            {
                end += 1;
            }
            if end > start + 2 && !self.sql.get(end).is_some_and(|&byte| is_ident(byte)) {
                self.pos = end;
                return Ok(Kind::Bits);
            }
            return self.word();
        }
        while self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.pos += 1;
        }
        match self.peek(0) {
            Some(b'.') => {
                self.fraction();
                self.exponent();
                Ok(Kind::Number)
            }
            Some(b'e' | b'E') if self.exponent() => Ok(Kind::Number),
            Some(byte) if is_ident(byte) => {
                self.pos = start;
                self.word()
            }
            _ => Ok(Kind::Number),
        }
    }

    /// Moves over a dot and digits.
    fn fraction(&mut self) {
        self.pos += 1;
        while self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.pos += 1;
        }
    }

    /// Moves over an exponent, if there is one.
    fn exponent(&mut self) -> bool {
        if !matches!(self.peek(0), Some(b'e' | b'E')) {
            return false;
        }
        let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
        if !self.peek(1 + sign).is_some_and(|byte| byte.is_ascii_digit()) {
            return false;
        }
        self.pos += 1 + sign;
        while self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.pos += 1;
        }
        true
    }

    fn word(&mut self) -> Result<Kind, LexError> {
        let start = self.pos;
        while self.peek(0).is_some_and(is_ident) {
            self.pos += 1;
        }
        match self.mode.charset.check_word(self.sql.get(start..self.pos).unwrap_or_default()) {
            Some(why) => Err(why),
            None => Ok(Kind::Word),
        }
    }

    fn operator(&mut self, first: u8) -> Result<Kind, LexError> {
        let (kind, len) = match (first, self.peek(1), self.peek(2)) {
            (b':', Some(b'='), _) => (Kind::Assign, 2),
            (b'&', Some(b'&'), _) => (Kind::AndAnd, 2),
            (b'|', Some(b'|'), _) => (Kind::OrOr, 2),
            (b'<', Some(b'='), Some(b'>')) | (b'-', Some(b'>'), Some(b'>')) => (Kind::Op, 3),
            (b'<', Some(b'=' | b'>' | b'<'), _) => (Kind::Op, 2),
            (b'>', Some(b'=' | b'>'), _) => (Kind::Op, 2),
            (b'!', Some(b'='), _) | (b'-', Some(b'>'), _) => (Kind::Op, 2),
            (b'?', _, _) => (Kind::Placeholder, 1),
            (0, _, _) => return Err("has a NUL byte outside of a string"),
            (byte, _, _) if byte.is_ascii_graphic() && byte != b'\\' => (Kind::Punct(byte), 1),
            // To old servers \N is NULL.
            _ => return Err("has a character that does not belong to SQL"),
        };
        self.pos += len;
        Ok(kind)
    }
}
