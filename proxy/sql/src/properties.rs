//! Properties that hold for every text.

use proptest::prelude::*;

use crate::{
    InsertValue, JoinedAction, Mode, Span, Statement, analyze,
    lex::{Executable, Lexed, is_blank, lex},
    may_concern_atone, may_write,
};

/// Pieces of SQL, whole and broken.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "SELECT", "UPDATE", "DELETE", "INSERT", "INTO", "FROM", "t", "s.t", "SET", "WHERE", "a", "= 1", "=",
    "AND", "OR", "ORDER BY", "LIMIT", "VALUES", "(", ")", ",", "(1, ?)", "?", "NULL", "DEFAULT", "'x'",
    "'it''s'", "'\\'", "\"q\"", "\"", "`b c`", "`", "'", "-- x\n", "--", "#", "/* c */", "/*", "*/",
    "/*! 1 */", "/*!50000", "/*M!", "/*+", "/*+ XID('a:1') */", "/* xid='b' */", "XID('c')", "xid='d'",
    "@atone_xid", "@`atone_xid`", "@'Atone_Xid'", ":=", "@x", "@@autocommit", "@@session.", "autocommit",
    "0", "1.5e3", "0x1F", "x'41'", "b'01'", "N'n'", "_latin1'x'", "START", "COMMIT", "ROLLBACK", "GLOBAL",
    "TRANSACTION", "NAME", "TIMEOUT", "BEGIN", "WORK", "SAVEPOINT", "TO", "NOW()", "f(1)", "COUNT(*)",
    "ROW_COUNT()", "CASE", "WHEN", "THEN", "END", "BETWEEN", "IN", "NOT", "IS", "LIKE", "INTERVAL", "DAY",
    "WITH", "AS", "TABLE", "SHOW", "WARNINGS", ";", ".", "-", "+", "!", "&&", "||", "<=>", "->", "\u{e4}",
    "\\", "\0", "\u{a0}", "MOD", "SOUNDS", "EXPLAIN", "ANALYZE", "DO", "CALL", "p()", "TEMPORARY",
    "JOIN", "LEFT JOIN", "USING", "ON", "UPDATE t, u SET", "DELETE t FROM", "WITH c AS (SELECT 1)", "IGNORE",
    "RETURNING *", "u",
];

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    let separator = proptest::sample::select(&[" ", " ", " ", "", "\n", "\t "]);
    proptest::collection::vec((piece, separator), 0..16).prop_map(|pieces| {
        pieces.into_iter().flat_map(|(piece, blank)| [piece, blank.as_bytes().to_vec()].concat()).collect()
    })
}

/// A statement for Atone, or almost one, with other text around it.
fn addressed() -> impl Strategy<Value = Vec<u8>> {
    let statement = proptest::sample::select(&[
        "START GLOBAL TRANSACTION",
        "commit/**/global transaction",
        "ROLLBACK\tGLOBAL TRANSACTION",
        "SET @atone_xid = 'a'",
        "set @`ATONE_XID`:=?",
        "SELECT 'a' INTO @'atone_xid'",
        "UPDATE /*+ XID('a') */ t SET a = 1",
        "DELETE FROM t /* xid='a' */",
    ]);
    let around = || {
        proptest::sample::select(&[
            "",
            " ",
            "/* x */",
            "-- x\n",
            "# /*\n",
            ";",
            " ;",
            "\n\n",
            "'",
            "/*!50000 */",
        ])
    };
    (around(), statement, around())
        .prop_map(|(before, statement, after)| format!("{before}{statement}{after}").into_bytes())
}

fn mode() -> impl Strategy<Value = Mode> {
    any::<[bool; 4]>().prop_map(|[ansi_quotes, no_backslash_escapes, ignore_space, mariadb]| Mode {
        ansi_quotes,
        no_backslash_escapes,
        ignore_space,
        mariadb,
        marks: None,
        charset: crate::Charset::PLAIN,
    })
}

fn spans(statement: &Statement) -> Vec<Span> {
    let mut spans = Vec::new();
    match statement {
        Statement::Insert(insert) => {
            spans.push(insert.table.span.clone());
            for value in insert.rows.iter().flatten() {
                if let InsertValue::Literal(span) | InsertValue::Expression(span) = value {
                    spans.push(span.clone());
                }
            }
        }
        Statement::Dml(dml) => {
            spans.push(dml.table.span.clone());
            spans.extend(dml.with.clone());
            spans.push(dml.verb.clone());
            let assignments = dml.assignments().unwrap_or_default();
            spans.extend(assignments.iter().flat_map(|a| [a.span.clone(), a.value.clone()]));
            let clauses =
                [dml.where_clause.as_ref(), dml.order_by.as_ref(), dml.limit.as_ref(), dml.returning()];
            spans.extend(clauses.into_iter().flatten().cloned());
            spans.extend(dml.equalities.iter().flatten().map(|(_, value)| value.clone()));
        }
        Statement::Joined(joined) => {
            spans.push(joined.references.clone());
            spans.push(joined.verb.clone());
            spans.extend([&joined.with, &joined.where_clause].into_iter().flatten().cloned());
            spans.extend(joined.tables.iter().map(|table| table.span.clone()));
            if let JoinedAction::Update(assignments) = &joined.action {
                spans.extend(assignments.iter().flat_map(|a| [a.span.clone(), a.value.clone()]));
            }
        }
        Statement::SelectsDiagnostics { reads } => {
            spans.extend(reads.iter().flat_map(|read| {
                [Some(read.span.clone()), read.unaliased_item.clone()].into_iter().flatten()
            }));
        }
        _ => {}
    }
    spans
}

/// Every byte belongs to a token, to a comment, or is a blank.
fn assert_covers(sql: &[u8], lexed: &Lexed) {
    let mut pieces: Vec<Span> = lexed.tokens.iter().map(|token| token.span()).collect();
    pieces.extend(lexed.comments.iter().map(|comment| comment.span.clone()));
    pieces.sort_by_key(|span| span.start);
    let mut end = 0;
    for piece in pieces {
        assert!(piece.start >= end && piece.end > piece.start, "{piece:?} after {end}");
        assert!(sql[end..piece.start].iter().copied().all(is_blank));
        end = piece.end;
    }
    assert!(sql[end..].iter().copied().all(is_blank));
}

fn holds(sql: &[u8], mode: Mode) {
    let analysis = analyze(sql, mode);
    let _ = may_write(sql, mode);

    // The cheap test finds all that concerns Atone
    let concerns = matches!(
        analysis.statement,
        Statement::StartGlobal { .. }
            | Statement::JoinGlobal(_)
            | Statement::CommitGlobal
            | Statement::RollbackGlobal
            | Statement::SetXid(_)
            | Statement::TouchesXid
    ) || matches!(&analysis.statement, Statement::Refused(refusal) if refusal.for_atone)
        || analysis.xid_hint.is_some()
        || analysis.touches_xid;
    assert!(!concerns || may_concern_atone(sql), "overlooked: {analysis:?}");

    assert!(analysis.terminator <= sql.len());
    if let Some(hint) = &analysis.xid_hint {
        assert!(hint.span.end <= sql.len() && crate::xid::hint::is_valid_xid(hint.xid.as_bytes()));
        assert!(!hint.span.is_empty());
    }
    let Ok(lexed) = lex(sql, mode, Executable::Skip) else {
        assert!(matches!(analysis.statement, Statement::Refused(_)));
        return;
    };
    assert_covers(sql, &lexed);
    for &at in &analysis.placeholders {
        assert_eq!(sql[at], b'?');
    }
    for span in spans(&analysis.statement) {
        assert!(
            lexed.tokens.iter().any(|token| token.start() == span.start)
                && lexed.tokens.iter().any(|token| token.end() == span.end)
                && span.start < span.end
                && span.end <= analysis.terminator,
            "{span:?} of {analysis:?}"
        );
    }
    if let Statement::Insert(insert) = &analysis.statement {
        // None where the rows come from a query
        let first = insert.rows.first().map_or(0, Vec::len);
        let width = insert.columns.as_ref().map_or(first, Vec::len);
        assert!(insert.rows.iter().all(|row| row.len() == width));
    }
}

/// More cases than usual, since they are cheap; PROPTEST_CASES may ask for more.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { failure_persistence: None, cases: config.cases.max(4000), ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arbitrary_bytes_are_analyzed(sql in proptest::collection::vec(any::<u8>(), 0..64), mode in mode()) {
        holds(&sql, mode);
    }

    #[test]
    fn pieces_of_sql_are_analyzed(sql in soup(), mode in mode()) {
        holds(&sql, mode);
    }

    #[test]
    fn what_concerns_atone_is_never_overlooked(sql in addressed(), mode in mode()) {
        holds(&sql, mode);
    }

    /// The parts of a statement that was put together are found again.
    #[test]
    fn parts_are_found_again(
        values in proptest::collection::vec(0..VALUES.len(), 1..4),
        condition in 0..CONDITIONS.len(),
        order in 0..ORDERS.len(),
        limit in proptest::option::of(0u32..9),
        blank in proptest::sample::select(&[" ", "\n", "/* WHERE ' */", " -- LIMIT \"\n"]),
    ) {
        let set: Vec<String> = values.iter().map(|&v| format!("c{v}{blank}={blank}{}", VALUES[v])).collect();
        let order = ORDERS[order];
        let limit = limit.map(|n| format!("LIMIT{blank}{n}"));
        let (set, condition_text) = (set.join(","), CONDITIONS[condition]);
        let mut sql = format!("UPDATE{blank}t{blank}SET{blank}{set}{blank}WHERE{blank}{condition_text}");
        for clause in [order, limit.as_deref().unwrap_or("")] {
            if !clause.is_empty() {
                sql += blank;
                sql += clause;
            }
        }
        let end = sql.len();
        sql += " ; -- end";
        let analysis = analyze(sql.as_bytes(), Mode::default());
        prop_assert_eq!(analysis.terminator, end);
        let Statement::Dml(update) = analysis.statement else {
            return Err(TestCaseError::fail(format!("{sql}: {:?}", analysis.statement)));
        };
        let cut = |span: &Span| sql[span.clone()].to_owned();
        let found: Vec<String> = update.assignments().unwrap_or_default().iter().map(|a| cut(&a.value)).collect();
        let expected: Vec<&str> = values.iter().map(|&v| VALUES[v]).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(update.where_clause.as_ref().map(cut).unwrap_or_default(), CONDITIONS[condition]);
        prop_assert_eq!(update.order_by.as_ref().map(cut).unwrap_or_default(), order);
        prop_assert_eq!(update.limit.as_ref().map(cut), limit);
    }
}

#[rustfmt::skip]
const VALUES: &[&str] = &[
    "1", "-2.5e3", "'a, b'", "'it''s'", "'\\', WHERE'", "NULL", "DEFAULT", "a + 1", "(b, c) = (1, 2)", "?",
    "CONCAT('x', ',', y)", "(SELECT MAX(x) FROM u WHERE u.a = 1 ORDER BY y LIMIT 1)",
    "CASE WHEN a = 1 THEN 2 END", "TRIM(LEADING 'x' FROM y)", "`where`", "t.limit", "x'41'", "_binary 'x'",
    "a DIV 2", "a SOUNDS LIKE b", "DATE_ADD(d, INTERVAL 1 MONTH)", "CAST(a AS CHAR CHARACTER SET utf8mb4)",
    "CONVERT(a USING latin1)", "GROUP_CONCAT(a ORDER BY b SEPARATOR ',')", "POSITION('a' IN b)",
    "EXTRACT(YEAR_MONTH FROM d)", "-(-a)", "~a & b | c ^ d << 2", "a IS NOT TRUE",
    "TIMESTAMPDIFF(DAY, a, b)", "JSON_OBJECT('a', b)", "STR_TO_DATE(a, '%Y')", "a COLLATE utf8mb4_bin",
    "BINARY a", "IFNULL(a, 0) % 2", "COALESCE(a, b)", "MD5(a)", "ROUND(a, 2)", "MOD(a, 2)",
    "CHAR(65, 66 USING utf8mb4)", "CAST(a AS CHAR(5) CHARSET latin1)", "SUM(a) OVER (PARTITION BY b)",
];

#[rustfmt::skip]
const CONDITIONS: &[&str] = &[
    "id = 1", "id = ? AND k = 'x'", "(id = 1)", "a IN (1, 2, 3)", "a BETWEEN 1 AND 2 OR b > 3", "NOT a",
    "EXISTS (SELECT 1 FROM u WHERE u.a = t.a LIMIT 1)", "a LIKE 'x%' ESCAPE '|'", "a REGEXP '^x' XOR b",
    "a IS NULL AND b IS NOT NULL", "(a, b) IN ((1, 2), (3, 4))", "MATCH (a) AGAINST ('x' IN BOOLEAN MODE)",
    "a = ALL (SELECT b FROM u)", "a <=> NULL", "`order` = 'limit'", "LOWER(a) = 'x'", "a -> '$.b' = 1",
    "a NOT BETWEEN 1 AND 2 AND b NOT IN ('x')", "d > '2020-01-01' - INTERVAL 1 DAY",
    "a = 1 && b = 2 || c = 3", "CASE a WHEN 1 THEN b AND c ELSE d END", "'x' MEMBER OF (j)", "a RLIKE b",
    "a % 2 = 0", "a NOT LIKE 'x'", "1", "TRUE", "a = 'x' COLLATE utf8mb4_bin", "id IN (?, ?)", "a = -1",
    "a != b", "t.a <> t.b", "a = b = c",
];

const ORDERS: &[&str] = &["", "ORDER BY a", "ORDER BY a DESC, b ASC", "ORDER BY FIELD(a, 1, 2), -b DESC"];
