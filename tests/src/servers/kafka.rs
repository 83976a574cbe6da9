//! A real Kafka broker: one process that is broker and controller, with every kind of listener a job can use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;

use super::process::{Process, Signal, log_to, tail};
use super::{Once, free_port, installed, once, scratch, unique};
use crate::{Result, block_on, wait};

/// How long a broker may take until it answers.
const START: Duration = Duration::from_secs(90);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(15);

/// A running broker with an empty set of topics of its own. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Kafka {
    process: Option<Process>,
    directory: TempDir,
    ports: Ports,
}

/// How a client comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// No encryption, no user.
    Plaintext,
    /// Encrypted, no user; the certificate is signed by [`Kafka::ca_certificate`].
    Tls,
    /// User and password by the SASL mechanism PLAIN, not encrypted.
    Plain,
    /// SASL mechanism SCRAM-SHA-256, not encrypted.
    Scram256,
    /// SASL mechanism SCRAM-SHA-512, not encrypted.
    Scram512,
    /// SASL mechanism SCRAM-SHA-512, encrypted.
    Scram512Tls,
}

/// The user of every SASL login.
pub const USER: &str = "miller";
/// That user's password.
pub const PASSWORD: &str = "grist-and-flour";

#[derive(Debug, Clone, Copy)]
struct Ports {
    plaintext: u16,
    tls: u16,
    sasl: u16,
    sasl_tls: u16,
    controller: u16,
}

impl Kafka {
    /// The one broker that the tests of a process share; the first call starts it. Use topics of your own
    /// ([`Kafka::unique_topic`]), and [`Kafka::start`] for a broker that is to be stopped.
    ///
    /// # Errors
    ///
    /// As for [`Kafka::start`].
    pub fn shared() -> Result<&'static Kafka> {
        static SHARED: Once<Kafka> = Once::new();
        once(&SHARED, Kafka::start)
    }

    /// Starts a broker and waits until it answers: about 8 seconds, 400 MB of memory.
    ///
    /// # Errors
    ///
    /// When it cannot be installed or does not come up; the error shows the end of its log.
    pub fn start() -> Result<Kafka> {
        let directory = scratch("kafka")?;
        let ports = Ports {
            plaintext: free_port()?,
            tls: free_port()?,
            sasl: free_port()?,
            sasl_tls: free_port()?,
            controller: free_port()?,
        };
        make_certificates(directory.path())?;
        fs::write(directory.path().join("server.properties"), properties(directory.path(), ports))?;
        let mut kafka = Kafka { process: None, directory, ports };
        kafka.format()?;
        kafka.start_again()?;
        Ok(kafka)
    }

    /// Starts the broker after [`Kafka::kill`] or [`Kafka::stop`], on the same data and ports.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command = java("kafka.Kafka")?;
        command.arg(self.directory.path().join("server.properties"));
        log_to(&mut command, &self.log())?;
        self.process = Some(Process::start("Kafka", &mut command)?);
        self.wait_until_ready()
            .with_context(|| format!("Kafka did not start; the end of its log:\n{}", self.log_tail()))
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()
    }

    /// Stops the broker in order (SIGTERM) and waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end within a minute.
    pub fn stop(&mut self) -> Result<()> {
        let process = self.process()?;
        process.signal(Signal::Terminate)?;
        process.wait(Duration::from_secs(60))?;
        Ok(())
    }

    /// Freezes the broker: connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn pause(&mut self) -> Result<()> {
        self.process()?.signal(Signal::Stop)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn resume(&mut self) -> Result<()> {
        self.process()?.signal(Signal::Continue)
    }

    /// `bootstrapServers` of the listener that needs neither encryption nor user.
    pub fn bootstrap(&self) -> String {
        self.bootstrap_for(Login::Plaintext)
    }

    /// `bootstrapServers` of the listener for that login.
    pub fn bootstrap_for(&self, login: Login) -> String {
        let port = match login {
            Login::Plaintext => self.ports.plaintext,
            Login::Tls => self.ports.tls,
            Login::Plain | Login::Scram256 | Login::Scram512 => self.ports.sasl,
            Login::Scram512Tls => self.ports.sasl_tls,
        };
        format!("127.0.0.1:{port}")
    }

    /// The file with the certificate that signed the broker's own (PEM).
    pub fn ca_certificate(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A client's certificate and its key (PEM) that the broker trusts, as the listener of [`Login::Tls`] asks for but
    /// does not demand.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn client_certificate(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let read = |name| fs::read(self.directory.path().join(name));
        Ok((read("client.crt")?, read("client.key")?))
    }

    /// A certificate and its key that look the same and that nobody signed.
    ///
    /// # Errors
    ///
    /// When they cannot be made.
    pub fn untrusted_certificate() -> Result<(Vec<u8>, Vec<u8>)> {
        let directory = scratch("stranger")?;
        openssl(directory.path(), &format!("{NEW_KEY} -x509 -days 30 -subj /CN=miller -keyout key -out crt"))?;
        let read = |name| fs::read(directory.path().join(name));
        Ok((read("crt")?, read("key")?))
    }

    /// What a librdkafka client needs to come in by that login.
    pub fn client(&self, login: Login) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap_for(login));
        let (protocol, mechanism) = match login {
            Login::Plaintext => ("plaintext", None),
            Login::Tls => ("ssl", None),
            Login::Plain => ("sasl_plaintext", Some("PLAIN")),
            Login::Scram256 => ("sasl_plaintext", Some("SCRAM-SHA-256")),
            Login::Scram512 => ("sasl_plaintext", Some("SCRAM-SHA-512")),
            Login::Scram512Tls => ("sasl_ssl", Some("SCRAM-SHA-512")),
        };
        config.set("security.protocol", protocol);
        if protocol.ends_with("ssl") {
            config.set("ssl.ca.location", self.ca_certificate().display().to_string());
        }
        if let Some(mechanism) = mechanism {
            config.set("sasl.mechanism", mechanism).set("sasl.username", USER).set("sasl.password", PASSWORD);
        }
        config
    }

    /// Creates a topic with topic-level settings (`("retention.ms", "1000")`) and waits until every partition has a leader.
    ///
    /// # Errors
    ///
    /// When the broker refuses, for example because the topic exists.
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let results = block_on(self.admin()?.create_topics([&new], &AdminOptions::new()))??;
        all_done(results)?;
        self.wait_for_partitions(topic, Some(partitions))
    }

    /// Creates a topic whose name starts with `prefix` and is used by no other test.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub fn unique_topic(&self, prefix: &str, partitions: i32) -> Result<String> {
        let topic = unique(prefix);
        self.create_topic(&topic, partitions, &[])?;
        Ok(topic)
    }

    /// Deletes a topic and waits until the broker no longer lists it, so that the name can be used again.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        all_done(block_on(self.admin()?.delete_topics(&[topic], &AdminOptions::new()))??)?;
        self.wait_for_partitions(topic, None)
    }

    /// Gives a topic more partitions: `total` in all.
    ///
    /// # Errors
    ///
    /// When the broker refuses; partitions cannot become fewer.
    pub fn grow_topic(&self, topic: &str, total: i32) -> Result<()> {
        let new = NewPartitions::new(topic, usize::try_from(total)?);
        all_done(block_on(self.admin()?.create_partitions([&new], &AdminOptions::new()))??)?;
        self.wait_for_partitions(topic, Some(total))
    }

    /// Deletes what lies below an offset of a partition, as retention does; the topic then begins there.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub fn delete_records(&self, topic: &str, partition: i32, below: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(below))?;
        let deleted = block_on(self.admin()?.delete_records(&list, &AdminOptions::new()))??;
        deleted.elements().iter().try_for_each(|element| element.error())?;
        Ok(())
    }

    /// The first and the next offset of each partition, by partition number. Of a transactional topic the next offset
    /// counts markers and aborted messages too.
    ///
    /// # Errors
    ///
    /// When the topic does not exist or the broker does not answer.
    pub fn offsets(&self, topic: &str) -> Result<Vec<(i64, i64)>> {
        let consumer: BaseConsumer = self.client(Login::Plaintext).create()?;
        let partitions = self.partitions(&consumer, topic)?.with_context(|| format!("there is no topic {topic}"))?;
        (0..partitions).map(|partition| Ok(consumer.fetch_watermarks(topic, partition, REQUEST)?)).collect()
    }

    /// The end of the broker's log, for an error message.
    pub fn log_tail(&self) -> String {
        tail(&self.log())
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("Kafka was not started")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("kafka.log")
    }

    fn format(&self) -> Result<()> {
        let mut command = java("kafka.tools.StorageTool")?;
        command.args(["format", "--standalone", "--cluster-id", "millrace-tests-kafka-w"]);
        command.arg("--config").arg(self.directory.path().join("server.properties"));
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            command.arg("--add-scram").arg(format!("{mechanism}=[name={USER},password={PASSWORD}]"));
        }
        log_to(&mut command, &self.log())?;
        if !Process::start("Kafka's format tool", &mut command)?.wait(START)?.success() {
            bail!("Kafka's storage could not be formatted; the end of the log:\n{}", self.log_tail());
        }
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let mut config = self.client(Login::Plaintext);
        // A refused connection is what is expected for the first seconds.
        config.set("log_level", "0").set("reconnect.backoff.max.ms", "200");
        let probe: BaseConsumer = config.create()?;
        let process = self.process()?;
        wait::until("Kafka to answer", START, || {
            if let Some(status) = process.try_wait()? {
                bail!("Kafka ended by itself: {status}");
            }
            let metadata = probe.fetch_metadata(None, Duration::from_millis(500));
            Ok(metadata.ok().filter(|metadata| !metadata.brokers().is_empty()).map(|_| ()))
        })
    }

    fn wait_for_partitions(&self, topic: &str, count: Option<i32>) -> Result<()> {
        let consumer: BaseConsumer = self.client(Login::Plaintext).create()?;
        let what = format!("topic {topic} to have {count:?} partitions");
        wait::until(&what, REQUEST, || Ok((self.partitions(&consumer, topic)? == count).then_some(())))
    }

    /// The number of partitions that have a leader; none if the topic does not exist.
    fn partitions(&self, consumer: &BaseConsumer, topic: &str) -> Result<Option<i32>> {
        // All topics are asked for, because asking for one by name would remember it as wanted.
        let metadata = consumer.fetch_metadata(None, REQUEST)?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        let led = found.partitions().iter().filter(|partition| partition.leader() >= 0).count();
        Ok(Some(i32::try_from(led)?))
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.client(Login::Plaintext).create()?)
    }
}

fn all_done(results: Vec<Result<String, (String, rdkafka::types::RDKafkaErrorCode)>>) -> Result<()> {
    for result in results {
        result.map_err(|(topic, code)| anyhow!("Kafka refused for topic {topic}: {code}"))?;
    }
    Ok(())
}

fn java(class: &str) -> Result<Command> {
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
    command.arg(installed("KAFKA_LIBS")?.join("*")).arg(class);
    Ok(command)
}

fn properties(directory: &Path, ports: Ports) -> String {
    let Ports { plaintext, tls, sasl, sasl_tls, controller } = ports;
    let listeners = format!(
        "PLAINTEXT://127.0.0.1:{plaintext},SSL://127.0.0.1:{tls},SASL_PLAINTEXT://127.0.0.1:{sasl},\
         SASL_SSL://127.0.0.1:{sasl_tls},CONTROLLER://127.0.0.1:{controller}"
    );
    let directory = directory.display();
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,\
         CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listeners={listeners}\n\
         advertised.listeners={listeners}\n\
         log.dirs={directory}/data\n\
         ssl.keystore.type=PEM\n\
         ssl.keystore.location={directory}/server.pem\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={directory}/ca.crt\n\
         listener.name.ssl.ssl.client.auth=requested\n\
         sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n"
    );
    for listener in ["sasl_plaintext", "sasl_ssl"] {
        let modules = "org.apache.kafka.common.security";
        text += &format!(
            "listener.name.{listener}.plain.sasl.jaas.config=\
             {modules}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n"
        );
        for mechanism in ["scram-sha-256", "scram-sha-512"] {
            text += &format!(
                "listener.name.{listener}.{mechanism}.sasl.jaas.config={modules}.scram.ScramLoginModule required;\n"
            );
        }
    }
    text + SETTINGS
}

/// One broker has no replicas; a test's messages carry times of its choosing, so nothing may be deleted by age or
/// refused for its time; and a message of 20 MB is one of the cases.
const SETTINGS: &str = "\
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
log.message.timestamp.after.max.ms=9223372036854775807
log.cleaner.dedupe.buffer.size=8388608
message.max.bytes=33554432
";

const NEW_KEY: &str = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// A throwaway certificate authority, a client's certificate, and a certificate for this machine's loopback address that it signed.
fn make_certificates(directory: &Path) -> Result<()> {
    fs::write(directory.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")?;
    openssl(directory, &format!("{NEW_KEY} -x509 -days 30 -subj /CN=throwaway-ca -keyout ca.key -out ca.crt"))?;
    for (name, subject) in [("server", "/CN=localhost"), ("client", "/CN=miller")] {
        openssl(directory, &format!("{NEW_KEY} -subj {subject} -keyout {name}.key -out {name}.csr"))?;
        let signed = format!("x509 -req -days 30 -in {name}.csr -CA ca.crt -CAkey ca.key -out {name}.crt");
        openssl(directory, &format!("{signed} -extfile names -CAcreateserial"))?;
    }
    let key = fs::read_to_string(directory.join("server.key"))?;
    let certificate = fs::read_to_string(directory.join("server.crt"))?;
    fs::write(directory.join("server.pem"), key + &certificate)?;
    Ok(())
}

fn openssl(directory: &Path, arguments: &str) -> Result<()> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output();
    let output = output.context("running openssl")?;
    if !output.status.success() {
        bail!("openssl {arguments} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
