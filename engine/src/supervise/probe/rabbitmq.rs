//! RabbitMQ: a message is published with a confirm and consumed again, through a queue that lives as long as the connection.
//!
//! A broker under a memory or disk alarm takes connections and answers everything, but confirms nothing: only this sees it.
//!
//! The client cannot be stopped half way: given up while its handshake hangs, it keeps a thread and a socket for as long as
//! the broker keeps silent. So an attempt is left to end by itself (the negotiated heartbeat sees to that), few may be
//! unfinished at once, and after a failure the broker must first greet a plain socket, which costs nothing to give up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties, ErrorKind};
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::{Failed, Login, Probed, io_failed, nonce, resolve};

/// Reply codes that are about our user or its virtual host: access-refused, not-allowed (AMQP 0-9-1, section 1.2).
const OURS: &[u16] = &[403, 530];
/// reply-success.
const GOODBYE: u16 = 200;

/// The protocol header of AMQP 0-9-1 (section 4.2.2); a broker answers it with Connection.Start.
const HEADER: &[u8] = b"AMQP\0\0\x09\x01";
/// Attempts that may be unfinished at once. Each got past the greeting and was then kept waiting.
const UNFINISHED: usize = 4;
/// Seconds; a connection whose broker is gone ends after about two of these.
const HEARTBEAT: u16 = 5;

#[derive(Debug)]
pub(super) struct Rabbitmq {
    login: Login,
    address: (String, u16),
    unfinished: Arc<Semaphore>,
    /// The last attempt did not end well, as far as is known.
    doubted: AtomicBool,
}

impl Rabbitmq {
    pub fn new(login: Login, address: (String, u16)) -> Rabbitmq {
        Rabbitmq {
            login,
            address,
            unfinished: Arc::new(Semaphore::new(UNFINISHED)),
            doubted: AtomicBool::new(true),
        }
    }

    pub async fn run(&self, timeout: Duration) -> Probed {
        let address = resolve(&self.address).await?;
        // Not each time: a broker logs a warning for every visitor that leaves after the greeting.
        if self.doubted.swap(true, Ordering::Relaxed) && !self.login.config.tls {
            greet(address).await?;
        }
        let Ok(permit) = self.unfinished.clone().try_acquire_owned() else {
            return Err(Failed::Down(format!("keeps {UNFINISHED} earlier probes waiting; is an alarm set?")));
        };
        let uri = self.uri(address, timeout).map_err(Failed::CannotTell)?;
        let name = format!("halberd canary {}", self.login.prober);
        let attempt = tokio::spawn(async move {
            let _permit = permit;
            let properties = ConnectionProperties::default().with_connection_name(name.into());
            let connection = Connection::connect_uri(uri, properties).await.map_err(failed)?;
            round_trip(&connection).await?;
            let _ = connection.close(GOODBYE, "canary done".into()).await;
            Ok(())
        });
        attempt.await.unwrap_or_else(|error| Err(Failed::CannotTell(format!("the probe broke: {error}"))))?;
        self.doubted.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn uri(&self, address: SocketAddr, timeout: Duration) -> Result<AMQPUri, String> {
        let config = &self.login.config;
        let password = config.password()?;
        let userinfo = AMQPUserInfo {
            username: config.username.clone().unwrap_or_default(),
            password: password.expose_secret().to_owned(),
        };
        // With TLS the certificate is held against the name; without, what was resolved is what is connected to.
        let host = if config.tls { self.address.0.clone() } else { address.ip().to_string() };
        Ok(AMQPUri {
            scheme: if config.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority { userinfo, host, port: address.port() },
            vhost: config.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(HEARTBEAT),
                connection_timeout: u64::try_from(timeout.as_millis()).ok(),
                ..AMQPQueryString::default()
            },
        })
    }
}

/// Whether it speaks at all.
async fn greet(address: SocketAddr) -> Probed {
    let mut stream = TcpStream::connect(address).await.map_err(|error| io_failed(&error))?;
    stream.write_all(HEADER).await.map_err(|error| io_failed(&error))?;
    match stream.read_u8().await {
        Ok(_) => Ok(()),
        Err(error) => Err(Failed::Down(format!("no greeting: {error}"))),
    }
}

async fn round_trip(connection: &Connection) -> Probed {
    let channel = connection.create_channel().await.map_err(failed)?;
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    // Without a name the broker makes one up, so no two probers ever meet.
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.map_err(failed)?;
    let take = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    let consumed = channel.basic_consume(queue.name().clone(), "".into(), take, FieldTable::default()).await;
    let mut consumer = consumed.map_err(failed)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(failed)?;
    let value = nonce();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let published = channel
        .basic_publish("".into(), queue.name().clone(), options, value.as_bytes(), BasicProperties::default())
        .await
        .map_err(failed)?;
    match published.await.map_err(failed)? {
        Confirmation::Ack(None) => {}
        other => return Err(Failed::Down(format!("the message was not taken: {}", word(&other)))),
    }
    match consumer.next().await {
        Some(Ok(delivery)) if delivery.data == value.as_bytes() => Ok(()),
        Some(Ok(_)) => Err(Failed::Down("another message than was published is delivered".into())),
        Some(Err(error)) => Err(failed(error)),
        None => Err(Failed::Down("the broker ended the consumer".into())),
    }
}

fn word(confirmation: &Confirmation) -> &'static str {
    match confirmation {
        Confirmation::Ack(_) => "it came back as unroutable",
        Confirmation::Nack(_) => "the broker refused it",
        Confirmation::NotRequested => "the broker does not confirm",
    }
}

fn failed(error: lapin::Error) -> Failed {
    match error.kind() {
        ErrorKind::ProtocolError(told) if OURS.contains(&told.get_id()) => {
            Failed::CannotTell(format!("login or vhost refused: {error}"))
        }
        ErrorKind::IOError(error) => io_failed(error),
        _ => Failed::Down(error.to_string()),
    }
}
