//! One connection to the broker: made, furnished with exchange and queues, and used until the first thing goes wrong.
//!
//! As with the probe of the control plane, a handshake that hangs cannot be stopped half way; so an attempt is left to end by
//! itself, few may be unfinished at once, and a broker without TLS must first greet a plain socket, which costs nothing to give up.

use std::sync::Arc;
use std::time::Duration;

use halberd_core::bus::Priority;
use halberd_store::bus::Waiting;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties, ErrorKind, ExchangeKind, PublisherConfirm,
};
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::config::BusConfig;
use super::url::{Host, Target};
use super::wire;

/// For a greeting, a handshake, a declaration. A broker that needs longer is tried again, or another of the cluster is.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a confirm: one that is under an alarm takes messages and confirms none. What was not confirmed is sent again.
const CONFIRM: Duration = Duration::from_secs(20);
/// Seconds; a connection whose broker is gone ends after about two of these.
const HEARTBEAT: u16 = 15;
/// The protocol header of AMQP 0-9-1 (section 4.2.2); a broker answers it with Connection.Start.
const HEADER: &[u8] = b"AMQP\0\0\x09\x01";
/// Handshakes that may be unfinished at once.
const UNFINISHED: usize = 4;
/// AMQP's reply code for an exchange or queue that does not exist.
const NOT_FOUND: u16 = 404;

/// What became of a message.
#[derive(Debug)]
pub(super) enum Sent {
    Confirmed,
    /// The broker does not take this one; others it may.
    Refused(String),
}

/// A link that is of no use any more, and why.
#[derive(Debug)]
pub(super) struct Broken(pub String);

impl From<lapin::Error> for Broken {
    fn from(error: lapin::Error) -> Broken {
        Broken(error.to_string())
    }
}

/// Makes links.
#[derive(Debug)]
pub(super) struct Dialler {
    name: String,
    unfinished: Arc<Semaphore>,
    /// Where the next attempt begins in the list of hosts.
    next: usize,
}

/// A connection with all that the topics need.
pub(super) struct Link {
    // Kept: the channel ends with it.
    connection: Connection,
    channel: Channel,
    exchange: String,
    topics: Vec<String>,
    /// Host and port, for people.
    pub at: String,
}

impl Dialler {
    /// `name` is shown in the broker's list of connections.
    pub fn new(name: String) -> Dialler {
        Dialler { name, unfinished: Arc::new(Semaphore::new(UNFINISHED)), next: 0 }
    }

    /// One attempt at one host; each failure moves on to the next.
    pub async fn dial(&mut self, config: &BusConfig) -> Result<Link, Broken> {
        let target = config.target().map_err(|error| Broken(error.to_string()))?;
        let host = &target.hosts[self.next % target.hosts.len()];
        let at = format!("{}:{}", host.name, host.port);
        let linked = match self.connect(config, &target, host).await {
            Ok(connection) => {
                let furnished = timeout(PATIENCE, Link::furnish(connection, config, at.clone())).await;
                furnished.unwrap_or_else(|_| Err(Broken("declarations are not answered".into())))
            }
            Err(broken) => Err(broken),
        };
        linked.map_err(|Broken(why)| {
            self.next = self.next.wrapping_add(1);
            Broken(format!("{at}: {why}"))
        })
    }

    async fn connect(&self, config: &BusConfig, target: &Target, host: &Host) -> Result<Connection, Broken> {
        if !target.tls {
            greet(host).await?;
        }
        let Ok(permit) = self.unfinished.clone().try_acquire_owned() else {
            return Err(Broken(format!("keeps {UNFINISHED} earlier handshakes waiting")));
        };
        let ca = config.ca().map_err(|error| Broken(error.to_string()))?;
        let tls = OwnedTLSConfig { identity: None, cert_chain: ca };
        let properties = ConnectionProperties::default().with_connection_name(self.name.clone().into());
        let uri = uri(target, host);
        let runtime = lapin::runtime::default_runtime()?;
        let attempt = tokio::spawn(async move {
            let _permit = permit;
            Connection::connect_uri_with_config(uri, properties, tls, runtime).await
        });
        match timeout(PATIENCE, attempt).await {
            Ok(Ok(connected)) => Ok(connected?),
            Ok(Err(error)) => Err(Broken(format!("the attempt broke: {error}"))),
            Err(_) => Err(Broken("the handshake is not finished in time".into())),
        }
    }
}

fn uri(target: &Target, host: &Host) -> AMQPUri {
    let userinfo =
        AMQPUserInfo { username: host.user.clone(), password: host.password.expose_secret().to_owned() };
    AMQPUri {
        scheme: if target.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority { userinfo, host: host.name.clone(), port: host.port },
        vhost: target.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(HEARTBEAT),
            connection_timeout: u64::try_from(PATIENCE.as_millis()).ok(),
            ..AMQPQueryString::default()
        },
    }
}

/// Whether somebody answers there as a broker does.
async fn greet(host: &Host) -> Result<(), Broken> {
    let visit = async {
        let mut socket = TcpStream::connect((host.name.as_str(), host.port)).await?;
        socket.write_all(HEADER).await?;
        socket.read_u8().await
    };
    match timeout(PATIENCE, visit).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Broken(format!("no broker answers: {error}"))),
        Err(_) => Err(Broken("no broker answers in time".into())),
    }
}

impl Link {
    async fn furnish(connection: Connection, config: &BusConfig, at: String) -> Result<Link, Broken> {
        let durable = config.durable_queues || config.quorum_queues;
        declare_exchange(&connection, &config.exchange, durable).await?;
        for topic in &config.topics {
            for priority in Priority::ALL {
                let queue = wire::queue(topic, *priority);
                declare_queue(&connection, &queue, durable, config.quorum_queues).await?;
                // As oslo's notifiers do: what is told before anybody listens waits in the queue.
                let channel = connection.create_channel().await?;
                let (exchange, key) = (config.exchange.as_str(), queue.as_str());
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(key.into(), exchange.into(), key.into(), options, FieldTable::default())
                    .await?;
                close(channel).await;
            }
        }
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Link { connection, channel, exchange: config.exchange.clone(), topics: config.topics.clone(), at })
    }

    pub fn is_up(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Sends messages side by side, and tells what became of each, in their order. The caller sees to it that no two of them are about one
    /// object: their order would hang on the broker taking both.
    ///
    /// When the link breaks, what comes back is shorter: of the rest nothing is known.
    pub async fn send(&self, messages: &[Waiting]) -> (Vec<Sent>, Option<Broken>) {
        let mut sent = Vec::with_capacity(messages.len());
        let mut confirms = Vec::with_capacity(messages.len());
        let mut broken = None;
        for message in messages {
            match self.publish(message).await {
                Ok(own) => confirms.push(own),
                Err(why) => {
                    broken = Some(why);
                    break;
                }
            }
        }
        for own in confirms {
            match confirmed(own).await {
                Ok(fate) => sent.push(fate),
                Err(why) => return (sent, Some(why)),
            }
        }
        (sent, broken)
    }

    /// To every topic.
    async fn publish(&self, message: &Waiting) -> Result<Vec<PublisherConfirm>, Broken> {
        let mut confirms = Vec::with_capacity(self.topics.len());
        let body = wire::body(message);
        for topic in &self.topics {
            let key = wire::queue(topic, message.priority);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let (exchange, properties) = (self.exchange.as_str(), wire::properties(message));
            let published =
                self.channel.basic_publish(exchange.into(), key.into(), options, &body, properties);
            confirms.push(timeout(CONFIRM, published).await.map_err(|_| silent())??);
        }
        Ok(confirms)
    }

    /// Says goodbye, to a broker that answers.
    pub async fn close(self) {
        let _ = timeout(Duration::from_secs(1), self.connection.close(200, "done".into())).await;
    }
}

/// What the broker says of one message in all its topics.
async fn confirmed(confirms: Vec<PublisherConfirm>) -> Result<Sent, Broken> {
    let mut fate = Sent::Confirmed;
    for confirm in confirms {
        match timeout(CONFIRM, confirm).await.map_err(|_| silent())?? {
            Confirmation::Ack(None) => {}
            // Somebody deleted the queue: the next link makes it again.
            Confirmation::Ack(Some(_)) => {
                return Err(Broken("a message came back: its queue is gone".into()));
            }
            Confirmation::Nack(_) => fate = Sent::Refused("the broker refused it".into()),
            Confirmation::NotRequested => return Err(Broken("the broker does not confirm".into())),
        }
    }
    Ok(fate)
}

fn silent() -> Broken {
    Broken("it confirms nothing; is an alarm set?".into())
}

/// What exists is used as it is, since a declaration that differs is refused; only what is missing is made as configured.
async fn declare_exchange(connection: &Connection, exchange: &str, durable: bool) -> Result<(), Broken> {
    let look = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let make = ExchangeDeclareOptions { durable, ..ExchangeDeclareOptions::default() };
    for options in [look, make] {
        // A refusal closes its channel.
        let channel = connection.create_channel().await?;
        let kind = ExchangeKind::Topic;
        let done = channel.exchange_declare(exchange.into(), kind, options, FieldTable::default()).await;
        match done {
            Err(error) if options.passive && is_missing(&error) => continue,
            done => done?,
        }
        close(channel).await;
        return Ok(());
    }
    Ok(())
}

async fn declare_queue(
    connection: &Connection,
    queue: &str,
    durable: bool,
    quorum: bool,
) -> Result<(), Broken> {
    let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let make = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
    for options in [look, make] {
        let channel = connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        if quorum && !options.passive {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        }
        match channel.queue_declare(queue.into(), options, arguments).await {
            Err(error) if options.passive && is_missing(&error) => continue,
            done => drop(done?),
        }
        close(channel).await;
        return Ok(());
    }
    Ok(())
}

async fn close(channel: Channel) {
    let _ = channel.close(200, "done".into()).await;
}

fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(told) if told.get_id() == NOT_FOUND)
}
