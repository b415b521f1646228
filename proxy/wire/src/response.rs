//! OK, ERR and EOF packets.

use crate::Malformed;
use crate::caps::{client, status};
use crate::read::{Reader, put_lenenc, put_lenenc_bytes};

/// `OK_Packet`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OkPacket {
    /// Rows changed, or found under `CLIENT_FOUND_ROWS`.
    pub affected_rows: u64,
    /// The first generated auto-increment value.
    pub last_insert_id: u64,
    /// `SERVER_*` flags.
    pub status: u16,
    /// Number of warnings.
    pub warnings: u16,
    /// All that follows, as it came: the info string and session state, in the form that the capabilities ask for.
    pub tail: Vec<u8>,
}

impl OkPacket {
    /// Parses an OK packet, header 0x00 or (as the end of a result, under `CLIENT_DEPRECATE_EOF`) 0xfe.
    pub fn parse(payload: &[u8]) -> Result<OkPacket, Malformed> {
        let mut r = Reader::new(payload);
        if !matches!(r.u8()?, 0x00 | 0xfe) {
            return Err(Malformed("not an OK packet"));
        }
        Ok(OkPacket {
            affected_rows: r.lenenc()?,
            last_insert_id: r.lenenc()?,
            status: r.u16()?,
            warnings: r.u16()?,
            tail: r.take_rest().to_vec(),
        })
    }

    /// The info string ("Rows matched: …"). The servers put its length before it whatever the capabilities are.
    pub fn info(&self) -> &[u8] {
        Reader::new(&self.tail).lenenc_bytes().unwrap_or_default()
    }

    /// The packet with another info string, and without session state.
    pub fn with_info(mut self, info: &[u8]) -> OkPacket {
        self.tail.clear();
        self.status &= !status::SESSION_STATE_CHANGED;
        if !info.is_empty() {
            put_lenenc_bytes(&mut self.tail, info);
        }
        self
    }

    /// The packet with so many more warnings, in the number at the end of its info string too if that counts them.
    pub fn with_more_warnings(mut self, more: usize, in_info: bool) -> OkPacket {
        self.warnings = self.warnings.saturating_add(u16::try_from(more).unwrap_or(u16::MAX));
        if !in_info {
            return self;
        }
        let info = self.info();
        let text = info.trim_ascii_end();
        let digits = text.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return self;
        }
        let mut told = text[..text.len() - digits].to_vec();
        told.extend_from_slice(self.warnings.to_string().as_bytes());
        self.with_info(&told)
    }

    /// The packet's payload, header 0x00.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0x00];
        put_lenenc(&mut out, self.affected_rows);
        put_lenenc(&mut out, self.last_insert_id);
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&self.warnings.to_le_bytes());
        out.extend_from_slice(&self.tail);
        out
    }

    /// Takes session state changes out of the tail: for replies whose state information is about injected statements.
    pub fn without_session_state(self, capabilities: u64) -> OkPacket {
        if capabilities & client::SESSION_TRACK != 0 && self.status & status::SESSION_STATE_CHANGED != 0 {
            let info = self.info().to_vec();
            return self.with_info(&info);
        }
        self
    }
}

/// `ERR_Packet` after the handshake (with SQL state)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrPacket {
    /// Error number.
    pub code: u16,
    /// Five characters.
    pub sql_state: [u8; 5],
    /// The message, in the session's charset.
    pub message: Vec<u8>,
}

impl ErrPacket {
    /// Parses an ERR packet; one without SQL state (before the handshake ended) gets `HY000`.
    pub fn parse(payload: &[u8]) -> Result<ErrPacket, Malformed> {
        let mut r = Reader::new(payload);
        if r.u8()? != 0xff {
            return Err(Malformed("not an ERR packet"));
        }
        let code = r.u16()?;
        let mut sql_state = *b"HY000";
        if r.rest().first() == Some(&b'#') && r.rest().len() >= 6 {
            r.u8()?;
            sql_state.copy_from_slice(r.bytes(5)?);
        }
        Ok(ErrPacket { code, sql_state, message: r.take_rest().to_vec() })
    }

    /// The packet's payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0xff];
        out.extend_from_slice(&self.code.to_le_bytes());
        out.push(b'#');
        out.extend_from_slice(&self.sql_state);
        out.extend_from_slice(&self.message);
        out
    }
}

/// Status flags and warnings of an EOF packet (0xfe, warnings, status).
pub fn parse_eof(payload: &[u8]) -> Result<(u16, u16), Malformed> {
    let mut r = Reader::new(payload);
    if r.u8()? != 0xfe {
        return Err(Malformed("not an EOF packet"));
    }
    let warnings = r.u16()?;
    Ok((r.u16()?, warnings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_round_trips() {
        let ok = OkPacket {
            affected_rows: 300,
            last_insert_id: 70_000,
            status: 2,
            warnings: 1,
            tail: b"info".to_vec(),
        };
        assert_eq!(OkPacket::parse(&ok.encode()), Ok(ok));
    }

    #[test]
    fn more_warnings_are_in_the_info_too() {
        let ok = OkPacket { warnings: 1, ..OkPacket::default() };
        let told =
            ok.clone().with_info(b"Rows matched: 2  Changed: 2  Warnings: 1").with_more_warnings(9, true);
        assert_eq!((told.warnings, told.info()), (10, &b"Rows matched: 2  Changed: 2  Warnings: 10"[..]));
        let told = ok.with_more_warnings(usize::MAX, true);
        assert_eq!((told.warnings, told.info()), (u16::MAX, &b""[..]));
    }

    #[test]
    fn err_round_trips_and_old_form_is_read() {
        let err = ErrPacket { code: 1213, sql_state: *b"40001", message: b"deadlock".to_vec() };
        assert_eq!(ErrPacket::parse(&err.encode()), Ok(err));
        let old = ErrPacket::parse(b"\xff\x10\x04Too many").unwrap();
        assert_eq!((old.code, &old.sql_state, old.message.as_slice()), (1040, b"HY000", &b"Too many"[..]));
    }
}
