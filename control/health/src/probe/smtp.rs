//! `smtp`: the greeting, EHLO or HELO, STARTTLS if asked for, QUIT (RFC 5321, RFC 3207).

use fulcrum_model::CheckTls;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use super::{Asked, Tools, Trouble, bad, connect, quoted, tls};
use crate::target::Target;

/// The longest line of a reply, and the most lines (RFC 5321, 4.5.3.1.5: 512 bytes).
const LINE: u64 = 1024;
const LINES: usize = 100;

pub(super) async fn ask(
    tools: &Tools,
    target: &Target,
    helo: Option<&str>,
    secure: Option<&CheckTls>,
) -> Asked {
    let stream = connect::stream(tools, target).await?;
    let me = helo.map_or_else(own_name, str::to_owned);
    let mut talk = BufReader::new(stream);
    expect(&mut talk, 220, "greeting").await?;
    greet(&mut talk, &me).await?;
    let Some(secure) = secure else { return quit(&mut talk).await };
    say(&mut talk, "STARTTLS").await?;
    expect(&mut talk, 220, "answer to STARTTLS").await?;
    if !talk.buffer().is_empty() {
        return bad("it talks on between STARTTLS and TLS");
    }
    let stream = tls::over(talk.into_inner(), &tools.trust, target, secure, None, None).await?;
    let mut talk = BufReader::new(stream);
    greet(&mut talk, &me).await?;
    quit(&mut talk).await
}

/// EHLO, or HELO where that is not known.
async fn greet(talk: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>, me: &str) -> Asked {
    say(talk, &format!("EHLO {me}")).await?;
    match reply(talk).await? {
        (250, _) => Ok(()),
        (500 | 502, _) => {
            say(talk, &format!("HELO {me}")).await?;
            expect(talk, 250, "answer to HELO").await
        }
        (_, text) => bad(format!("answer to EHLO is {}, expected 250", quoted(&text))),
    }
}

/// Politeness: what it answers does not matter any more.
async fn quit(talk: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> Asked {
    if say(talk, "QUIT").await.is_ok() {
        let _ = reply(talk).await;
    }
    Ok(())
}

async fn say(talk: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>, line: &str) -> Asked {
    talk.write_all(format!("{line}\r\n").as_bytes()).await?;
    Ok(talk.flush().await?)
}

async fn expect(talk: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>, code: u16, what: &str) -> Asked {
    match reply(talk).await? {
        (given, _) if given == code => Ok(()),
        (_, text) => bad(format!("{what} is {}, expected {code}", quoted(&text))),
    }
}

/// The code of a reply, and its last line.
async fn reply(talk: &mut BufReader<impl AsyncRead + Unpin>) -> Result<(u16, Vec<u8>), Trouble> {
    for _ in 0..LINES {
        let mut line = Vec::new();
        (&mut *talk).take(LINE).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return bad("connection closed before the answer");
        }
        let code = line.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(code) = code.and_then(|digits| digits.parse::<u16>().ok()).filter(|_| line.ends_with(b"\n"))
        else {
            return bad(format!("{} is no reply of a mail server", quoted(&line)));
        };
        if line.get(3) != Some(&b'-') {
            return Ok((code, line));
        }
    }
    bad(format!("a reply of more than {LINES} lines"))
}

fn own_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if plain { name } else { "localhost".to_owned() }
}
