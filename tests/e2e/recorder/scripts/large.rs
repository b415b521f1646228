//! Packets around and above 16 MiB, slow readers, interrupted results.

use atone_tests::wire::payload::{Execute, Param, query, statement, types};

use crate::script::{
    Matrix, May, Script, Step, about, dawdle, end, execute, made, ping, prepare, q, receive, script, wait_for,
};

/// The longest payload of one frame, in bytes.
const FRAME: usize = 0xff_ffff;
const ROWS: &[&str] = &[
    "CREATE TABLE n (id INT PRIMARY KEY AUTO_INCREMENT)",
    "INSERT INTO n VALUES (), (), (), (), (), (), (), (), (), ()",
    "INSERT INTO n SELECT NULL FROM n a, n b, n c",
];
/// More than all buffers on the way hold, compressed or not.
const ENDLESS: &str = "SELECT CONCAT(RANDOM_BYTES(1024), RANDOM_BYTES(1024), RANDOM_BYTES(1024), RANDOM_BYTES(1024)), \
                       CONCAT(RANDOM_BYTES(1024), RANDOM_BYTES(1024), RANDOM_BYTES(1024), RANDOM_BYTES(1024)) FROM m";

pub(crate) fn scripts() -> Vec<Script> {
    vec![
        script("large_rows", &["more than 16 MiB"]).matrix(Matrix::One).steps(large_rows()),
        script("large_commands", &["more than 16 MiB"]).matrix(Matrix::One).steps(large_commands()),
        script("large_parameters", &["more than 16 MiB", "COM_STMT_SEND_LONG_DATA"])
            .matrix(Matrix::One)
            .steps(vec![
                prepare("SELECT LENGTH(?), SHA2(?, 256)"),
                blobs("just below one frame", [FRAME - 60, 10]),
                blobs("above two frames", [FRAME, FRAME]),
                long_data(FRAME - 7, b'y'),
                long_data(FRAME, b'z'),
                execute(1, vec![Param::long(types::LONG_BLOB), Param::text("short")]),
                ping(),
            ]),
        script("large_both_ways", &["more than 16 MiB"]).matrix(Matrix::Few).steps(vec![
            made("a large command", |capabilities, _| filled(capabilities, FRAME + 1)),
            q(&format!("SELECT REPEAT('r', {})", FRAME + 1)),
            ping(),
        ]),
        script("larger_than_allowed", &["max_allowed_packet"]).matrix(Matrix::One).steps(vec![
            q("SELECT 1"),
            q("SELECT REPEAT('x', 140000000) IS NULL"),
            q("SHOW WARNINGS"),
            prepare("SELECT LENGTH(?)"),
            ping(),
        ]),
        script("many_rows", &["COM_QUERY"]).setup(ROWS).steps(vec![
            q("SELECT a.id, REPEAT('y', a.id % 100), b.id FROM n a, n b WHERE b.id < 20 ORDER BY a.id, b.id"),
            ping(),
        ]),
        script("slow_reader", &["a slow reader"]).setup(ROWS).matrix(Matrix::Few).steps(vec![
            q("SELECT id, REPEAT('z', 40000) FROM n ORDER BY id LIMIT 800").sent(),
            dawdle(),
            receive(),
            ping(),
        ]),
        script("killed_in_the_middle", &["KILL"])
            .setup(ROWS)
            .setup(&[
                "CREATE TABLE m (id INT PRIMARY KEY AUTO_INCREMENT)",
                "INSERT INTO m SELECT NULL FROM n a, n b LIMIT 20000",
            ])
            .matrix(Matrix::Few)
            .steps(vec![
                q("SELECT 1"),
                q(ENDLESS).by('b').sent(),
                dawdle(),
                about("KILL QUERY {b}"),
                receive().by('b').may(May::Length),
                ping().by('b'),
                q(ENDLESS).by('b').sent(),
                dawdle(),
                about("KILL {b}"),
                receive().by('b').may(May::Length).may(May::LastWord),
                wait_for("SELECT COUNT(*) = 0 FROM information_schema.PROCESSLIST WHERE ID = {b}"),
            ]),
        script("idle_too_long", &["wait_timeout"])
            .matrix(Matrix::Few)
            .steps(vec![q("SET wait_timeout = 1, interactive_timeout = 1"), end()]),
        script("statement_time", &["time limits"]).setup(ROWS).matrix(Matrix::One).mysql().steps(vec![
            q("SET max_execution_time = 50"),
            q("SELECT COUNT(*) FROM n a, n b, n c WHERE a.id + b.id = SQRT(c.id)"),
            ping(),
        ]),
    ]
}

fn blob(length: usize) -> Param {
    let pattern: Vec<u8> = (0..=250).collect();
    let mut bytes = pattern.repeat(length / pattern.len() + 1);
    bytes.truncate(length);
    Param::bytes(types::LONG_BLOB, &bytes)
}

fn blobs(name: &str, lengths: [usize; 2]) -> Step {
    let name = format!("two parameters, {name}");
    made(&name, move |capabilities, id| {
        let params = lengths.into_iter().map(blob).collect();
        Execute { id, params, ..Execute::default() }.payload(capabilities)
    })
}

fn long_data(length: usize, byte: u8) -> Step {
    made("long data", move |_, id| {
        let mut rest = vec![0, 0];
        rest.resize(length + 2, byte);
        statement(0x18, id, &rest)
    })
}

fn large_rows() -> Vec<Step> {
    let mut steps = Vec::new();
    // The value's length takes 4 bytes below 16 MiB, and 9 from there
    for length in [FRAME - 5, FRAME - 4, FRAME - 3, 2 * FRAME - 9] {
        steps.push(q(&format!("SELECT REPEAT('r', {length})")));
    }
    steps.push(q(&format!("SELECT REPEAT('r', {FRAME}), 'behind'; SELECT 'the next result'")));
    steps.push(prepare(&format!("SELECT REPEAT('b', {})", FRAME - 6)));
    steps.push(execute(1, vec![]));
    // The first byte is that of an EOF
    steps.push(q(&format!("SELECT REPEAT('e', {}), 1", FRAME + 1)));
    steps.push(ping());
    steps
}

/// A query whose payload has this length.
fn filled(capabilities: u64, total: usize) -> Vec<u8> {
    let (front, back) = (b"SELECT LENGTH('", b"')");
    let mut out = query(capabilities, front, &[]);
    out.resize(total - back.len(), b'q');
    out.extend_from_slice(back);
    out
}

fn large_commands() -> Vec<Step> {
    let mut steps: Vec<Step> = [FRAME - 1, FRAME, FRAME + 1, 2 * FRAME]
        .into_iter()
        .map(|total| {
            made(&format!("a query of {total} bytes"), move |capabilities, _| filled(capabilities, total))
        })
        .collect();
    steps.push(ping());
    steps
}
