//! The limits: bare loops that send the commands a request needs, one connection, and do nothing else.
//!
//! They write and read the Redis protocol by hand, as a client library would cost time that the limit must not have.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::drain::Form;
use crate::cli::exit::Exit;

/// How many requests the bare loop takes in one go.
const BATCH: u64 = 64;

/// The answer of `echo` to the requests of the bench, in both forms.
const JSON: &[u8] = br#"{"status":"ok","data":"hello"}"#;
const MSGPACK: &[u8] = b"\x82\xa6status\xa2ok\xa4data\xa5hello";

const QUEUE: &[u8] = b"CERBAS-QUEUE";
const IN_FLIGHT: &[u8] = b"CERBAS-INFLIGHT-bare";

/// One connection to Redis.
pub(super) struct Wire {
    out: Vec<u8>,
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
}

impl Wire {
    /// Connects to `address`, in database 1.
    pub(super) fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut wire = Wire { out: Vec::new(), stream: BufReader::with_capacity(1 << 16, stream), line: Vec::new() };
        wire.ask(&[b"SELECT", b"1"])?;
        Ok(wire)
    }

    /// Adds a command to what is sent next.
    pub(super) fn add(&mut self, words: &[&[u8]]) {
        self.add_head(words.len());
        words.iter().for_each(|word| self.add_word(word));
    }

    fn add_head(&mut self, words: usize) {
        write!(self.out, "*{words}\r\n").expect("memory takes it");
    }

    fn add_word(&mut self, word: &[u8]) {
        write!(self.out, "${}\r\n", word.len()).expect("memory takes it");
        self.out.extend_from_slice(word);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Sends what was added.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Sends a command and gives back the number that its reply has, 0 if it has none.
    pub(super) fn ask(&mut self, words: &[&[u8]]) -> io::Result<i64> {
        self.add(words);
        self.flush()?;
        let (kind, number) = self.head()?;
        self.skip_body(kind, number)?;
        Ok(number)
    }

    /// Reads a reply and forgets it.
    pub(super) fn skip(&mut self) -> io::Result<()> {
        let (kind, number) = self.head()?;
        self.skip_body(kind, number)
    }

    fn skip_body(&mut self, kind: u8, number: i64) -> io::Result<()> {
        match kind {
            b'$' if number >= 0 => {
                let length = number as u64 + 2;
                io::copy(&mut self.stream.by_ref().take(length), &mut io::sink()).map(drop)
            }
            b'*' => (0..number).try_for_each(|_| self.skip()),
            b'-' => Err(io::Error::other(String::from_utf8_lossy(&self.line).trim_end().to_owned())),
            _ => Ok(()),
        }
    }

    /// Reads the first line of a reply: its kind, and the number in it.
    fn head(&mut self) -> io::Result<(u8, i64)> {
        self.line.clear();
        if self.stream.read_until(b'\n', &mut self.line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let number = std::str::from_utf8(&self.line[1..]).ok().and_then(|text| text.trim_end().parse().ok());
        Ok((self.line[0], number.unwrap_or(0)))
    }

    /// Reads a reply that is a text or nothing.
    fn text(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (kind, length) = self.head()?;
        if kind != b'$' || length < 0 {
            self.skip_body(kind, length)?;
            return Ok(None);
        }
        let mut text = vec![0; length as usize + 2];
        self.stream.read_exact(&mut text)?;
        text.truncate(length as usize);
        Ok(Some(text))
    }

    /// Reads a reply that is a list of texts, or nothing.
    fn texts(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let (kind, count) = self.head()?;
        if kind != b'*' {
            self.skip_body(kind, count)?;
            return Ok(Vec::new());
        }
        let texts = (0..count.max(0)).map(|_| Ok(self.text()?.unwrap_or_default()));
        texts.collect()
    }

    /// Takes up to [`BATCH`] elements, into the in-flight list if `is_safe`.
    fn take(&mut self, is_safe: bool) -> io::Result<Vec<Vec<u8>>> {
        self.add(&[b"LPOP", QUEUE, BATCH.to_string().as_bytes()]);
        self.flush()?;
        let elements = self.texts()?;
        if is_safe && !elements.is_empty() {
            self.add_head(2 + elements.len());
            [b"RPUSH", IN_FLIGHT].iter().for_each(|word| self.add_word(word));
            elements.iter().for_each(|element| self.add_word(element));
        }
        Ok(elements)
    }

    /// Adds what answers a request; gives back how many replies it has.
    fn answer(&mut self, id: &str) -> usize {
        self.add(&[b"SET", format!("CERBAS-RESULT-{id}").as_bytes(), JSON, b"EX", b"60"]);
        self.add(&[b"PUBLISH", format!("CERBAS-RESPONSE-1-{id}").as_bytes(), JSON]);
        self.add(&[b"PUBLISH", format!("MSGPACK:CERBAS-RESPONSE-1-{id}").as_bytes(), MSGPACK]);
        3
    }

    fn take_out(&mut self, element: &[u8]) -> usize {
        self.add(&[b"LREM", IN_FLIGHT, b"1", element]);
        1
    }
}

/// Drains `requests` requests; gives back how many a second. Those of at-most-once are in no in-flight list.
pub(super) fn drain(address: &str, form: Form, requests: u64) -> io::Result<f64> {
    let mut wire = Wire::connect(address)?;
    let (is_safe, has_body) = (form != Form::AtMostOnce, form != Form::InlineSilent);
    let start = Instant::now();
    loop {
        let elements = wire.take(is_safe)?;
        if elements.is_empty() {
            return Ok(requests as f64 / start.elapsed().as_secs_f64());
        }
        let mut replies = usize::from(is_safe);
        if has_body {
            wire.add_head(1 + 2 * elements.len());
            wire.add_word(b"MGET");
            for element in &elements {
                let number = String::from_utf8_lossy(element);
                wire.add_word(format!("CERBAS-REQ-{number:0>10}").as_bytes());
                wire.add_word(format!("CERBAS-REQUEST-{number:0>10}").as_bytes());
            }
            replies += 1;
        }
        wire.flush()?;
        (0..replies).try_for_each(|_| wire.skip())?;

        let mut replies = 0;
        for element in &elements {
            if is_safe {
                replies += wire.take_out(element);
            }
            if has_body {
                let id = format!("{:0>10}", String::from_utf8_lossy(element));
                replies += wire.answer(&id);
                wire.add(&[b"DEL", format!("CERBAS-REQ-{id}").as_bytes()]);
                replies += 1;
            }
        }
        wire.flush()?;
        (0..replies).try_for_each(|_| wire.skip())?;
    }
}

/// Answers inline requests, until it is killed.
pub(super) fn echo(address: &str) -> io::Result<Exit> {
    let mut wire = Wire::connect(address)?;
    loop {
        let mut elements = wire.take(true)?;
        let mut replies = usize::from(!elements.is_empty());
        if elements.is_empty() {
            wire.add(&[b"BLMOVE", QUEUE, IN_FLIGHT, b"LEFT", b"RIGHT", b"1"]);
            wire.flush()?;
            elements.extend(wire.text()?);
        }
        for element in &elements {
            let text = String::from_utf8_lossy(element);
            let id = text.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            replies += wire.take_out(element) + wire.answer(id);
        }
        wire.flush()?;
        (0..replies).try_for_each(|_| wire.skip())?;
    }
}
