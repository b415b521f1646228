//! The application's statements, or others in their place, on their way to the server, and what comes back.

use atone_wire::caps::{client, status};
use atone_wire::frame::put_packet;
use atone_wire::read::put_lenenc;
use atone_wire::reply::{Expect, ReplyTracker};
use atone_wire::response::{OkPacket, parse_eof};
use bytes::Bytes;

use super::Session;
use super::analysed::{Origin, Uncaptured};
use super::link::reply::Answer;
use atone_capture::error::End;
use atone_capture::flight::Rows;

impl Session {
    /// Forwards an analysed statement that writes nothing, and relays the reply.
    pub(super) async fn forward(&mut self, origin: Origin, expect: Expect) -> Result<ReplyTracker, End> {
        let expect = self.link.send_analysed(&origin, expect).await?;
        self.relay_analysed(expect).await
    }

    /// Forwards an analysed statement that writes, of which nothing has to be captured for this reason.
    pub(super) async fn forward_uncaptured(
        &mut self,
        origin: Origin,
        expect: Expect,
        why: Uncaptured,
    ) -> Result<ReplyTracker, End> {
        let expect = self.link.send_uncaptured(&origin, expect, why).await?;
        self.relay_analysed(expect).await
    }

    async fn relay_analysed(&mut self, expect: Expect) -> Result<ReplyTracker, End> {
        let tracker = self.relay_reply(expect).await?;
        if let Some(code) = tracker.failed() {
            // The server's own list is of it
            self.state.diagnostics.forget();
            self.capture().after_error(code).await?;
        }
        Ok(tracker)
    }

    /// Answers the current statement with a result set that was kept: its definitions, and these rows.
    pub(super) async fn send_rows(
        &mut self,
        kept: &Rows,
        rows: impl Iterator<Item = Vec<u8>>,
    ) -> Result<(), End> {
        let deprecate_eof = self.link.capabilities & client::DEPRECATE_EOF != 0;
        let mut out = Vec::new();
        let mut head = Vec::new();
        put_lenenc(&mut head, kept.columns.len() as u64);
        if self.link.capabilities & client::OPTIONAL_DEFINITIONS != 0 {
            head.push(1); // definitions follow
        }
        let mut seq = put_packet(&mut out, self.link.reply.seq, &head);
        for column in &kept.columns {
            seq = put_packet(&mut out, seq, column);
        }
        let end = patched_end(&kept.end, self.reply_status(self.link.status), deprecate_eof)?;
        if !deprecate_eof {
            seq = put_packet(&mut out, seq, &end);
        }
        for row in rows {
            seq = put_packet(&mut out, seq, &row);
        }
        self.link.reply.seq = put_packet(&mut out, seq, &end);
        self.link.reply.answer =
            Some(Answer { affected_rows: None, warnings: kept.warnings(self.link.capabilities)? });
        self.link.client.write_all(&out).await.map_err(End::Client)
    }
}

/// The packet that ends a result, with the status flags of now.
fn patched_end(end: &Bytes, now: u16, deprecate_eof: bool) -> Result<Vec<u8>, End> {
    // What has changed in the session was told with another packet
    let now = now & !status::SESSION_STATE_CHANGED;
    if deprecate_eof {
        let mut ok = OkPacket::parse(end)?;
        ok.status = now;
        ok.tail.clear();
        let mut out = ok.encode();
        out[0] = 0xfe;
        return Ok(out);
    }
    let (_, warnings) = parse_eof(end)?;
    let mut out = vec![0xfe];
    out.extend_from_slice(&warnings.to_le_bytes());
    out.extend_from_slice(&now.to_le_bytes());
    Ok(out)
}
