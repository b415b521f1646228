//! Commands above the server's `max_allowed_packet`, on servers of their own where it is small.

use anyhow::{Result, ensure};
use atone_tests::run::Harmable;
use atone_tests::server::APP;
use atone_tests::wire::payload::{Execute, Param, query, text, types};
use atone_tests::wire::{Decoded, Login, Session};
use atone_tests::{Bank, ClusterOptions};

/// `max_allowed_packet` of the servers, in bytes.
const ALLOWED: usize = 1 << 20;

pub(crate) fn options() -> ClusterOptions {
    ClusterOptions {
        server_options: vec![format!("--max-allowed-packet={ALLOWED}")],
        ..ClusterOptions::default()
    }
}

/// The last that the client hears of this command: an error, or the end where the error was lost because the server
/// closed while the client was still writing.
async fn last_word(port: u16, length: usize, prepared: bool) -> Result<(Decoded, bool)> {
    let mut session = Session::open(&Login::new(port, APP)).await?;
    let command = if prepared {
        let prepare = text(0x16, b"SELECT LENGTH(?)");
        session.send(&prepare).await?;
        let reply = session.receive(&prepare, None).await?;
        let id = reply.first().and_then(|(_, packet)| packet.get("statement")).and_then(|id| id.parse().ok());
        let params = vec![Param::bytes(types::LONG_BLOB, &vec![b'x'; length])];
        Execute { id: id.unwrap_or_default(), params, ..Execute::default() }.payload(session.capabilities)
    } else {
        let sql = [b"SELECT LENGTH('".as_slice(), &vec![b'x'; length], b"')"].concat();
        query(session.capabilities, &sql, &[])
    };
    let sent = session.send(&command).await.is_ok();
    let reply = session.receive(&command, None).await?;
    let last = reply.into_iter().next_back().map_or_else(|| Decoded::new("nothing"), |(_, last)| last);
    let open = sent && last.kind != "closed" && {
        let ping = [0x0e];
        let _ = session.send(&ping).await;
        session.receive(&ping, None).await?.iter().any(|(_, packet)| packet.kind == "OK")
    };
    Ok((last, open))
}

/// What is too large is refused in the server's words, as far as they reach the client, and never runs.
pub(crate) async fn too_large(cluster: Harmable) -> Result<()> {
    let cluster = cluster.lock().await;
    let (straight, through) = (cluster.server(Bank::One).port(), cluster.proxy_port(Bank::One));
    for prepared in [false, true] {
        // Below, above, and above in more than one frame
        for length in [ALLOWED - 100, ALLOWED, ALLOWED + 4096, 17 << 20] {
            let one = last_word(straight, length, prepared).await?;
            let other = last_word(through, length, prepared).await?;
            let lost = |word: &(Decoded, bool)| word.0.kind == "closed";
            let refused = |word: &(Decoded, bool)| lost(word) || word.0.get("code") == Some("1153");
            let same = one == other || refused(&one) && refused(&other) && (lost(&one) || lost(&other));
            ensure!(same, "{length} bytes, prepared: {prepared}\nstraight: {one:?}\nthrough:  {other:?}");
            ensure!(length < ALLOWED || refused(&other), "{length} bytes were taken: {other:?}");
        }
    }
    Ok(())
}
