//! What the lexer makes of a text: tokens and comments.

use crate::types::Span;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An unquoted word: keyword, identifier, charset introducer.
    Word,
    /// `` `x` ``, or `"x"` under ANSI_QUOTES.
    Quoted,
    /// `'…'`, `"…"`, `N'…'`.
    Str,
    /// `x'1F'`, `0x1F`, `b'01'`, `0b01`.
    Bits,
    /// `1`, `1.5`, `.5`, `1e3`.
    Number,
    /// `@x`, quoted or not.
    UserVar,
    /// `@@x`: up to the first dot.
    SysVar,
    /// `?`.
    Placeholder,
    /// A single character.
    Punct(u8),
    /// `:=`.
    Assign,
    /// `<=`, `>=`, `<>`, `!=`, `<=>`, `<<`, `>>`, `->`, `->>`.
    Op,
    /// `&&`.
    AndAnd,
    /// `||`.
    OrOr,
}

/// A token: 12 bytes, since a bulk INSERT has very many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    /// Length of the mark before it, which is copied with the token.
    pub(super) mark: u16,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Token {
    /// With its mark.
    pub(crate) fn span(self) -> Span {
        self.start()..self.end()
    }
    /// Without its mark.
    pub(crate) fn bare_span(self) -> Span {
        self.start() + usize::from(self.mark)..self.end()
    }
    pub(crate) fn start(self) -> usize {
        self.start as usize
    }
    pub(crate) fn end(self) -> usize {
        self.end as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommentKind {
    /// `#…`, `-- …`.
    Line,
    /// `/* … */`.
    Block,
    /// `/*+ … */`.
    Hint,
    /// `/*! … */`, `/*M! … */`: code to some servers.
    Executable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) kind: CommentKind,
    pub(crate) span: Span,
    /// How many tokens are before it.
    pub(crate) tokens_before: usize,
}

/// The tokens and comments of a text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lexed {
    pub(crate) tokens: Vec<Token>,
    pub(crate) comments: Vec<Comment>,
}

impl Lexed {
    pub(crate) fn has_executable_comments(&self) -> bool {
        self.comments.iter().any(|comment| comment.kind == CommentKind::Executable)
    }
}

/// What to do with `/*! … */`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executable {
    /// Pass over it, as a server of another version does.
    Skip,
    /// Give the tokens inside of it.
    Inline,
}

/// The text can't be split into tokens; the reason reads on from "the statement".
pub(crate) type LexError = &'static str;
