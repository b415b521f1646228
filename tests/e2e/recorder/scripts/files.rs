//! LOAD DATA LOCAL: the client's file.

use super::ACCOUNT;
use crate::script::{Matrix, Script, about, close, open, ping, q, script, wait_for};
use atone_tests::wire::caps;

const LOAD: &str = "LOAD DATA LOCAL INFILE 'client.csv' INTO TABLE account FIELDS TERMINATED BY ','";

pub(crate) fn scripts() -> Vec<Script> {
    vec![
        script("local_infile", &["CLIENT_LOCAL_FILES", "LOAD DATA LOCAL"]).setup(ACCOUNT).steps(vec![
            q(LOAD).file(|| b"10,ten,10\n11,eleven,11\n".to_vec()),
            q("SELECT * FROM account ORDER BY id"),
            q(LOAD).file(|| b"10,again,10\n12,twelve,x\n13\n".to_vec()),
            q("SHOW WARNINGS"),
            q(LOAD),
            q("SELECT COUNT(*) FROM account"),
            q("LOAD DATA LOCAL INFILE 'client.csv' INTO TABLE nowhere").file(|| b"1\n".to_vec()),
            q("LOAD DATA LOCAL INFILE 'client.csv' REPLACE INTO TABLE account FIELDS TERMINATED BY ','")
                .file(|| b"10,replaced,1\n".to_vec()),
            q(&format!("{LOAD}; SELECT COUNT(*) FROM account; SELECT nosuch")).file(|| b"20,x,20\n".to_vec()),
            ping(),
        ]),
        script("local_infile_without_the_bit", &["CLIENT_LOCAL_FILES"]).setup(ACCOUNT).steps(vec![
            open("without local files", |login| login.capabilities &= !caps::LOCAL_FILES),
            q(LOAD).file(|| b"10,ten,10\n".to_vec()),
            ping(),
        ]),
        script("large_local_infile", &["CLIENT_LOCAL_FILES", "more than 16 MiB"])
            .setup(ACCOUNT)
            .matrix(Matrix::Few)
            .steps(vec![
                q("CREATE TABLE big (id INT AUTO_INCREMENT PRIMARY KEY, t LONGTEXT)"),
                q("LOAD DATA LOCAL INFILE 'big' INTO TABLE big (t)").file(large_file),
                q("SELECT COUNT(*), SUM(LENGTH(t)), MD5(GROUP_CONCAT(SHA2(t, 256) ORDER BY id)) FROM big"),
                ping(),
            ]),
        script("gone_in_the_middle_of_a_file", &["CLIENT_LOCAL_FILES", "a client that goes away"])
            .setup(ACCOUNT)
            .needs(caps::LOCAL_FILES)
            .steps(vec![
                q("SELECT 1"),
                q("SELECT 1").by('b'),
                about(LOAD).by('b').sent(),
                wait_for("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {b} AND INFO LIKE 'LOAD DATA%'"),
                close().by('b'),
                wait_for("SELECT COUNT(*) = 0 FROM information_schema.PROCESSLIST WHERE ID = {b}"),
                q("SELECT COUNT(*) FROM account"),
            ]),
    ]
}

/// 17 MiB in lines of different lengths.
fn large_file() -> Vec<u8> {
    let mut all = Vec::new();
    let mut n = 0_usize;
    while all.len() < 17 << 20 {
        all.resize(all.len() + n * 997 % 300_000, b'a' + u8::try_from(n % 26).unwrap_or(0));
        all.push(b'\n');
        n += 1;
    }
    all
}
