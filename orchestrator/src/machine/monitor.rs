//! QMP over a connected socket: one task owns the socket; commands go in, replies come out by their id, events
//! go their own way.
//!
//! The types are the `qapi` crate's, the wire is our own, because a monitor of the farm must outlive a command
//! that timed out and an event that the schema lacks.
//! Protocol: <https://www.qemu.org/docs/master/interop/qmp-spec.html>.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use qapi::qmp;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::escape::escape;

/// The longest message taken. The registers of 248 CPUs, the largest reply that farm asks for, are below 1 MiB.
const LINE_LIMIT: usize = 4 << 20;

/// Events that may wait to be fetched. A guest decides how many there are (it can reset its devices in a loop),
/// so what does not fit is dropped; farm fetches all the time.
const EVENT_BACKLOG: usize = 1024;

/// Bytes of a message that is not QMP, for the error text.
const EXCERPT: usize = 120;

/// How long to wait for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(pub Duration);

/// A negotiated QMP session. Dropping it closes the socket.
#[derive(Debug)]
pub struct Monitor {
    requests: mpsc::Sender<Request>,
}

/// An event of QEMU's.
#[derive(Debug)]
pub enum QmpEvent {
    Known(qmp::Event),
    /// An event that the schema at hand lacks, as it came.
    Unknown(Value),
}

/// Why a command has no reply.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    #[error("QMP socket failed")]
    Io(#[source] io::Error),
    #[error("QEMU closed its QMP socket")]
    Closed,
    #[error("QMP command {command} got no answer within {limit:?}")]
    Timeout { command: &'static str, limit: Duration },
    #[error("QEMU refused the QMP command {command}: {description}")]
    Refused { command: &'static str, description: String },
    #[error("QEMU's reply to the QMP command {command} is not of the form that its schema gives")]
    Reply {
        command: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("not a QMP message: {excerpt}")]
    Garbled { excerpt: String },
}

/// What QEMU says of itself when a session begins.
#[derive(Debug, Clone, Deserialize)]
pub struct Greeting {
    #[serde(rename = "QMP")]
    pub qmp: GreetingBody,
}

#[derive(Debug, Clone, Deserialize)]
pub struct GreetingBody {
    pub version: qmp::VersionInfo,
}

struct Request {
    command: &'static str,
    /// The message, short of its id.
    message: serde_json::Map<String, Value>,
    reply: oneshot::Sender<Result<Value, MonitorError>>,
}

impl Monitor {
    /// Waits for the greeting and negotiates. `limit` holds for each of the two.
    ///
    /// Must be called within a tokio runtime, where the session's task then runs.
    pub async fn connect(
        socket: UnixStream,
        limit: Timeout,
    ) -> Result<(Self, Greeting, mpsc::Receiver<QmpEvent>), MonitorError> {
        let (reader, writer) = socket.into_split();
        let mut lines = Lines::new(reader);
        let line = timeout(limit.0, lines.next())
            .await
            .map_err(|_| MonitorError::Timeout { command: "(greeting)", limit: limit.0 })??
            .ok_or(MonitorError::Closed)?;
        let greeting = serde_json::from_slice(&line).map_err(|_| garbled(&line))?;

        let (requests, incoming) = mpsc::channel(1);
        let (outgoing, events) = mpsc::channel(EVENT_BACKLOG);
        let session = Session {
            lines,
            writer,
            unsent: Vec::new(),
            pending: HashMap::new(),
            next_id: 0,
            events: outgoing,
        };
        tokio::spawn(session.run(incoming));
        let monitor = Self { requests };
        monitor.execute(qmp::qmp_capabilities { enable: None }, limit).await?;
        Ok((monitor, greeting, events))
    }

    /// Runs one command. Several may be under way. A reply that comes after the limit is dropped and harms
    /// no later command.
    pub async fn execute<C: qapi::Command>(&self, command: C, limit: Timeout) -> Result<C::Ok, MonitorError> {
        let reply_error = |source| MonitorError::Reply { command: C::NAME, source };
        let arguments = serde_json::to_value(command).map_err(reply_error)?;
        let message = [("execute".to_owned(), C::NAME.into()), ("arguments".to_owned(), arguments)];
        let (reply, answer) = oneshot::channel();
        let request = Request { command: C::NAME, message: message.into_iter().collect(), reply };
        let exchange = async {
            self.requests.send(request).await.map_err(|_| MonitorError::Closed)?;
            answer.await.map_err(|_| MonitorError::Closed)?
        };
        let value = timeout(limit.0, exchange)
            .await
            .map_err(|_| MonitorError::Timeout { command: C::NAME, limit: limit.0 })??;
        serde_json::from_value(value).map_err(reply_error)
    }
}

/// A command that QEMU has not answered yet.
struct Pending {
    command: &'static str,
    reply: oneshot::Sender<Result<Value, MonitorError>>,
}

/// The task's state.
struct Session {
    lines: Lines<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// Bytes that the socket has not taken yet: QEMU need not read for the farm to listen.
    unsent: Vec<u8>,
    pending: HashMap<u64, Pending>,
    next_id: u64,
    events: mpsc::Sender<QmpEvent>,
}

impl Session {
    /// Until QEMU closes, breaks the protocol, or the [`Monitor`] is dropped. Whoever waits for a reply then is
    /// told why there will be none.
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let end = self.serve(&mut requests).await;
        tracing::debug!(?end, "QMP session ended");
        let mut cause = end.err();
        for pending in self.pending.into_values() {
            // The first to wait gets the particulars; a caller that has given up needs no answer.
            let _ = pending.reply.send(Err(cause.take().unwrap_or(MonitorError::Closed)));
        }
    }

    async fn serve(&mut self, requests: &mut mpsc::Receiver<Request>) -> Result<(), MonitorError> {
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.send(request)?,
                    None => return Ok(()),
                },
                written = self.writer.write(&self.unsent), if !self.unsent.is_empty() => {
                    self.unsent.drain(..written.map_err(MonitorError::Io)?);
                }
                line = self.lines.next() => match line? {
                    Some(line) => self.receive(&line)?,
                    None => return Err(MonitorError::Closed),
                },
            }
        }
    }

    fn send(&mut self, Request { command, mut message, reply }: Request) -> Result<(), MonitorError> {
        let id = self.next_id;
        self.next_id += 1;
        message.insert("id".to_owned(), id.into());
        serde_json::to_writer(&mut self.unsent, &message)
            .map_err(|source| MonitorError::Reply { command, source })?;
        self.unsent.push(b'\n');
        self.pending.insert(id, Pending { command, reply });
        Ok(())
    }

    fn receive(&mut self, line: &[u8]) -> Result<(), MonitorError> {
        let mut message: Value = serde_json::from_slice(line).map_err(|_| garbled(line))?;
        if message.get("event").is_some() {
            let event = qmp::Event::deserialize(&message).map_or(QmpEvent::Unknown(message), QmpEvent::Known);
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                tracing::warn!(?event, "QMP event dropped: {EVENT_BACKLOG} wait to be fetched");
            }
            return Ok(());
        }
        let pending = message.get("id").and_then(Value::as_u64).and_then(|id| self.pending.remove(&id));
        let Some(Pending { command, reply }) = pending else {
            return Err(garbled(line));
        };
        let result = match message.get("error") {
            Some(error) => {
                let description = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
                Err(MonitorError::Refused { command, description: escape(description.as_bytes()) })
            }
            None => Ok(message["return"].take()),
        };
        // A caller whose time was up is gone.
        let _ = reply.send(result);
        Ok(())
    }
}

/// Lines of bounded length; `next` may be dropped and called again without loss.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader), line: Vec::new() }
    }

    /// The next whole line without its end; `None` at the stream's end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, MonitorError> {
        loop {
            let chunk = self.reader.fill_buf().await.map_err(MonitorError::Io)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let length = end.unwrap_or(chunk.len());
            self.line.extend_from_slice(&chunk[..length]);
            self.reader.consume(end.map_or(length, |end| end + 1));
            if self.line.len() > LINE_LIMIT {
                return Err(garbled(&self.line));
            }
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.line)));
            }
        }
    }
}

fn garbled(line: &[u8]) -> MonitorError {
    let excerpt = escape(&line[..line.len().min(EXCERPT)]);
    MonitorError::Garbled { excerpt: format!("{excerpt} ({} bytes)", line.len()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "p"}, "capabilities": []}}"#;

    /// For what must come: only a broken test waits this long.
    const AMPLE: Timeout = Timeout(Duration::from_secs(20));
    /// For what must not come.
    const BRIEF: Timeout = Timeout(Duration::from_millis(50));

    /// A QEMU that does as told.
    struct Peer {
        lines: Lines<OwnedReadHalf>,
        writer: OwnedWriteHalf,
    }

    impl Peer {
        fn pair() -> (Self, UnixStream) {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (reader, writer) = ours.into_split();
            (Self { lines: Lines::new(reader), writer }, theirs)
        }

        async fn say(&mut self, text: &str) {
            self.writer.write_all(text.as_bytes()).await.unwrap();
            self.writer.write_all(b"\r\n").await.unwrap();
        }

        /// The next command's name and id.
        async fn hear(&mut self) -> (String, u64) {
            let line = self.lines.next().await.unwrap().unwrap();
            let message: Value = serde_json::from_slice(&line).unwrap();
            (message["execute"].as_str().unwrap().to_owned(), message["id"].as_u64().unwrap())
        }

        async fn answer(&mut self, id: u64, value: Value) {
            self.say(&json!({"return": value, "id": id}).to_string()).await;
        }
    }

    async fn connected() -> (Peer, Monitor, mpsc::Receiver<QmpEvent>) {
        let (mut peer, socket) = Peer::pair();
        let greet = async {
            peer.say(GREETING).await;
            let (command, id) = peer.hear().await;
            assert_eq!(command, "qmp_capabilities");
            peer.answer(id, json!({})).await;
        };
        let (connection, ()) = tokio::join!(Monitor::connect(socket, AMPLE), greet);
        let (monitor, greeting, events) = connection.unwrap();
        assert_eq!(greeting.qmp.version.qemu.major, 10);
        (peer, monitor, events)
    }

    fn status(word: &str) -> Value {
        json!({"status": word, "running": false})
    }

    #[tokio::test]
    async fn a_monitor_that_never_greets_times_out() {
        let (_peer, socket) = Peer::pair();
        let error = Monitor::connect(socket, BRIEF).await.unwrap_err();
        assert!(matches!(error, MonitorError::Timeout { command: "(greeting)", .. }), "{error}");
    }

    #[tokio::test]
    async fn no_qmp_instead_of_a_greeting() {
        for (text, expected) in [
            ("qemu: \u{1b}[2J", r"not a QMP message: qemu: \x1b[2J\x0d (11 bytes)"),
            ("{}", r"not a QMP message: {}\x0d (3 bytes)"),
        ] {
            let (mut peer, socket) = Peer::pair();
            peer.say(text).await;
            assert_eq!(Monitor::connect(socket, AMPLE).await.unwrap_err().to_string(), expected);
        }
    }

    #[tokio::test]
    async fn a_peer_that_closes_before_it_greets() {
        let (peer, socket) = Peer::pair();
        drop(peer);
        assert!(matches!(Monitor::connect(socket, AMPLE).await.unwrap_err(), MonitorError::Closed));
    }

    #[tokio::test]
    async fn replies_find_their_commands_in_any_order() {
        let (mut peer, monitor, _events) = connected().await;
        let backwards = async {
            let (_, first) = peer.hear().await;
            let (_, second) = peer.hear().await;
            peer.answer(second, status("paused")).await;
            peer.answer(first, status("running")).await;
        };
        let (first, second, ()) = tokio::join!(
            monitor.execute(qmp::query_status {}, AMPLE),
            monitor.execute(qmp::query_status {}, AMPLE),
            backwards
        );
        assert_eq!(first.unwrap().status, qmp::RunState::running);
        assert_eq!(second.unwrap().status, qmp::RunState::paused);
    }

    #[tokio::test]
    async fn a_late_reply_harms_no_later_command() {
        let (mut peer, monitor, _events) = connected().await;
        let error = monitor.execute(qmp::query_status {}, BRIEF).await.unwrap_err();
        assert!(matches!(error, MonitorError::Timeout { command: "query-status", .. }), "{error}");
        let answers = async {
            let (_, late) = peer.hear().await;
            let (_, id) = peer.hear().await;
            peer.answer(late, status("running")).await;
            peer.answer(id, status("paused")).await;
        };
        let (reply, ()) = tokio::join!(monitor.execute(qmp::query_status {}, AMPLE), answers);
        assert_eq!(reply.unwrap().status, qmp::RunState::paused);
    }

    #[tokio::test]
    async fn events_come_typed_or_as_they_are() {
        let (mut peer, _monitor, mut events) = connected().await;
        peer.say(r#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}"#).await;
        peer.say(r#"{"event": "BRAND_NEW", "data": 7}"#).await;
        assert!(matches!(events.recv().await, Some(QmpEvent::Known(qmp::Event::STOP { .. }))));
        let Some(QmpEvent::Unknown(event)) = events.recv().await else { panic!("no event as it came") };
        assert_eq!(event, json!({"event": "BRAND_NEW", "data": 7}));
    }

    #[tokio::test]
    async fn a_flood_of_events_does_not_stop_replies() {
        let (mut peer, monitor, mut events) = connected().await;
        let flood = async {
            let (_, id) = peer.hear().await;
            for _ in 0..2 * EVENT_BACKLOG {
                peer.say(r#"{"event": "FLOOD"}"#).await;
            }
            peer.answer(id, status("running")).await;
        };
        let (reply, ()) = tokio::join!(monitor.execute(qmp::query_status {}, AMPLE), flood);
        reply.unwrap();
        drop(monitor);
        let mut kept = 0;
        while events.recv().await.is_some() {
            kept += 1;
        }
        assert_eq!(kept, EVENT_BACKLOG);
    }

    #[tokio::test]
    async fn events_come_from_a_peer_that_does_not_read() {
        let (mut peer, monitor, mut events) = connected().await;
        let command_line = "x".repeat(1 << 20);
        let hmp = qmp::human_monitor_command { command_line, cpu_index: None };
        monitor.execute(hmp, BRIEF).await.unwrap_err();
        peer.say(r#"{"event": "STILL_HERE"}"#).await;
        assert!(matches!(events.recv().await, Some(QmpEvent::Unknown(_))));
    }

    #[tokio::test]
    async fn a_refusal_is_the_commands_own() {
        let (mut peer, monitor, _events) = connected().await;
        let refuse = async {
            let (_, id) = peer.hear().await;
            let error = json!({"class": "GenericError", "desc": "not \u{1b}now"});
            peer.say(&json!({"error": error, "id": id}).to_string()).await;
        };
        let (reply, ()) = tokio::join!(monitor.execute(qmp::cont {}, AMPLE), refuse);
        assert_eq!(reply.unwrap_err().to_string(), r"QEMU refused the QMP command cont: not \x1bnow");
    }

    #[tokio::test]
    async fn a_reply_of_another_form_is_the_commands_own() {
        let (mut peer, monitor, _events) = connected().await;
        let answer = async {
            let (_, id) = peer.hear().await;
            peer.answer(id, json!({"status": 3})).await;
        };
        let (reply, ()) = tokio::join!(monitor.execute(qmp::query_status {}, AMPLE), answer);
        assert!(matches!(reply.unwrap_err(), MonitorError::Reply { command: "query-status", .. }));
    }

    /// Two commands wait while the peer does something; gives their errors, and a later command's.
    async fn errors_after(deed: &str) -> [String; 3] {
        let (mut peer, monitor, _events) = connected().await;
        let act = async {
            peer.hear().await;
            peer.hear().await;
            peer.writer.write_all(deed.as_bytes()).await.unwrap();
            drop(peer);
        };
        let (first, second, ()) = tokio::join!(
            monitor.execute(qmp::query_status {}, AMPLE),
            monitor.execute(qmp::query_status {}, AMPLE),
            act
        );
        let later = monitor.execute(qmp::query_status {}, AMPLE).await;
        let mut errors = [first, second].map(|reply| reply.unwrap_err().to_string());
        // Which of the two is told the particulars is left open.
        errors.sort();
        let [first, second] = errors;
        [first, second, later.unwrap_err().to_string()]
    }

    #[tokio::test]
    async fn the_end_of_the_session_is_told_to_all_who_wait() {
        const CLOSED: &str = "QEMU closed its QMP socket";
        let closed = [CLOSED; 3].map(str::to_owned);
        assert_eq!(errors_after("").await, closed);
        assert_eq!(errors_after(r#"{"return": {"status": "run"#).await, closed);
        for (deed, excerpt) in [
            ("\u{7}ouch\n", r"\x07ouch (5 bytes)"),
            ("{\"return\": {}}\n", r#"{"return": {}} (14 bytes)"#),
            ("{\"return\": {}, \"id\": 77}\n", r#"{"return": {}, "id": 77} (24 bytes)"#),
            ("[]\n", "[] (2 bytes)"),
        ] {
            let garbled = format!("not a QMP message: {excerpt}");
            assert_eq!(errors_after(deed).await, [CLOSED.to_owned(), garbled, CLOSED.to_owned()]);
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_not_kept() {
        let errors = errors_after(&"x".repeat(LINE_LIMIT + (64 << 10))).await;
        assert!(errors[1].starts_with("not a QMP message: xxx"), "{errors:?}");
    }
}
