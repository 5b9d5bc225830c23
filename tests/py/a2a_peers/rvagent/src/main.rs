//! An A2A server made of the rvagent-a2a crate, for the tests of the client.
//!
//!     a2a-peer [--tasks-per-minute N]
//!
//! Prints one line of JSON, {"url": ..., "sdk": ..., "agent_id": ...}, once it listens on
//! a free port of 127.0.0.1, and ends when its standard input does. Its card is signed.
//! What the skills do is told in README.md beside this folder.

use std::collections::HashSet;
use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::engine::{general_purpose::STANDARD, Engine};
use ed25519_dalek::SigningKey;
use rvagent_a2a::budget::{BudgetLedger, GlobalBudget};
use rvagent_a2a::error::A2aError;
use rvagent_a2a::executor::{Executor, TaskRunner};
use rvagent_a2a::identity::{agent_id_from_pubkey, sign_card};
use rvagent_a2a::server::{emit_status_event, A2aServer, A2aServerConfig, A2aState, TaskEvent};
use rvagent_a2a::types::{
    AgentCapabilities, AgentCard, AgentProvider, AgentSkill, Artifact, AuthScheme, FileContent,
    Message, Part, Role, Task, TaskArtifactUpdateEvent, TaskSpec, TaskState, TaskStatus,
    TaskStatusUpdateEvent,
};
use serde_json::{json, Value};

const SKILLS: [&str; 8] = ["echo", "count", "chunks", "parts", "slow", "fail", "crash", "ask"];
const SEED: [u8; 32] = [9; 32];

/// The server's own state, which a runner needs to speak before its task ends.
static SERVER: OnceLock<A2aState> = OnceLock::new();

#[derive(Default)]
struct Skills {
    canceled: Mutex<HashSet<String>>,
    asked: Mutex<HashSet<String>>,
}

/// A task on its way: what it has said so far.
struct Voice {
    id: String,
    artifacts: Vec<Artifact>,
}

fn text(text: &str) -> Part {
    Part::Text { text: text.into() }
}

fn words(message: &Message) -> Vec<String> {
    let texts = message.parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.flat_map(str::split_whitespace).map(String::from).collect()
}

fn number(words: &[String], index: usize, otherwise: u64) -> u64 {
    words.get(index).and_then(|word| word.parse().ok()).unwrap_or(otherwise)
}

fn status(state: TaskState, words: Option<&str>) -> TaskStatus {
    let message = words.map(|words| Message {
        role: Role::Agent,
        parts: vec![text(words)],
        metadata: Value::Null,
    });
    TaskStatus { state, timestamp: chrono::Utc::now(), message }
}

impl Voice {
    async fn working(&self, words: Option<&str>) {
        let status = status(TaskState::Working, words);
        let id = self.id.clone();
        let event = TaskStatusUpdateEvent { id, status, final_: false, metadata: Value::Null };
        // Nobody may be listening; the event is recorded for later all the same.
        let _ = emit_status_event(SERVER.get().unwrap(), event).await;
    }

    /// Sends a piece of an artifact and adds it to what the task will hold in the end.
    async fn artifact(&mut self, index: u32, name: &str, parts: Vec<Part>, more: [bool; 2]) {
        let [append, last_chunk] = more;
        let piece = Artifact {
            name: Some(name.into()),
            description: None,
            parts: parts.clone(),
            index,
            append,
            last_chunk,
            metadata: Value::Null,
        };
        let id = self.id.clone();
        let event = TaskArtifactUpdateEvent { id, artifact: piece.clone(), metadata: Value::Null };
        if let Some(channel) = SERVER.get().unwrap().streams.read().await.get(&self.id) {
            let _ = channel.send(TaskEvent::Artifact(event));
        }
        match self.artifacts.iter_mut().find(|known| append && known.index == index) {
            Some(known) => {
                known.parts.extend(parts);
                known.last_chunk = last_chunk;
            }
            None => self.artifacts.push(piece),
        }
    }
}

impl Skills {
    fn stopped(&self, id: &str) -> bool {
        self.canceled.lock().unwrap().contains(id)
    }

    async fn speak(&self, spec: &TaskSpec, voice: &mut Voice) -> Result<TaskStatus, A2aError> {
        let said = words(&spec.message);
        let done = status(TaskState::Completed, None);
        match spec.skill.as_str() {
            "echo" => voice.artifact(0, "echo", spec.message.parts.clone(), [false, true]).await,
            "count" => {
                for i in 1..=number(&said, 0, 5) {
                    voice.working(Some(&i.to_string())).await;
                    tokio::time::sleep(Duration::from_millis(number(&said, 1, 10))).await;
                    if self.stopped(&spec.id) {
                        return Ok(status(TaskState::Canceled, None));
                    }
                }
            }
            "chunks" => {
                voice.working(None).await;
                for (i, piece) in ["one ", "two ", "three"].iter().enumerate() {
                    voice.artifact(0, "report", vec![text(piece)], [i > 0, i == 2]).await;
                    tokio::time::sleep(Duration::from_millis(number(&said, 0, 10))).await;
                }
                let table = vec![Part::Data { data: json!({"rows": 3}) }];
                voice.artifact(1, "table", table, [false, true]).await;
            }
            "parts" => voice.artifact(0, "parts", several(), [false, true]).await,
            "slow" => {
                voice.working(None).await;
                for _ in 0..3000 {
                    if self.stopped(&spec.id) {
                        return Ok(status(TaskState::Canceled, None));
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            "fail" => {
                voice.working(None).await;
                return Ok(status(TaskState::Failed, Some("it went wrong")));
            }
            "ask" if self.asked.lock().unwrap().insert(spec.id.clone()) => {
                return Ok(status(TaskState::InputRequired, Some("which color?")));
            }
            "ask" => voice.artifact(0, "answer", spec.message.parts.clone(), [false, true]).await,
            _ => return Err(A2aError::Internal("the skill broke".into())),
        }
        Ok(TaskStatus { timestamp: chrono::Utc::now(), ..done })
    }
}

fn several() -> Vec<Part> {
    let bytes = STANDARD.encode((0..=255).collect::<Vec<u8>>());
    let file = |name: &str, mime: &str| FileContent {
        name: Some(name.into()),
        mime_type: Some(mime.into()),
        bytes: None,
        uri: None,
    };
    let inline = FileContent { bytes: Some(bytes), ..file("all.bin", "application/octet-stream") };
    let uri = Some("https://example.com/far.png".into());
    let far = FileContent { uri, ..file("far.png", "image/png") };
    vec![
        text("Grüße\u{2028}漢字 😀"),
        Part::File { file: inline },
        Part::File { file: far },
        Part::Data { data: json!({"list": [1, 2.5, null, true, "x"], "deep": {"empty": {}}}) },
    ]
}

#[async_trait]
impl TaskRunner for Skills {
    async fn run(&self, spec: TaskSpec) -> Result<Task, A2aError> {
        let mut voice = Voice { id: spec.id.clone(), artifacts: vec![] };
        let status = self.speak(&spec, &mut voice).await?;
        Ok(Task {
            id: spec.id,
            session_id: None,
            status,
            history: vec![spec.message],
            artifacts: voice.artifacts,
            metadata: Value::Null,
        })
    }

    async fn cancel(&self, task_id: &str) -> Result<(), A2aError> {
        self.canceled.lock().unwrap().insert(task_id.into());
        Ok(())
    }
}

fn signed_card(url: &str, key: &SigningKey) -> AgentCard {
    let skill = |name: &str| AgentSkill {
        id: name.into(),
        name: name.into(),
        description: name.into(),
        tags: vec!["test".into()],
        input_modes: vec!["text/plain".into()],
        output_modes: vec!["text/plain".into()],
    };
    let agent_id = agent_id_from_pubkey(&key.verifying_key());
    let mut card = AgentCard {
        name: "Rust peer".into(),
        description: "Tests of the client: Grüße, 漢字".into(),
        url: url.into(),
        provider: AgentProvider { organization: "tests".into(), url: None },
        version: "1.0.0".into(),
        capabilities: AgentCapabilities { streaming: true, push_notifications: false },
        skills: SKILLS.map(skill).to_vec(),
        authentication: AuthScheme { schemes: vec![] },
        metadata: json!({"ruvector": {"agent_id": agent_id.to_string()}}),
    };
    let signature = sign_card(&card, key).expect("a card can be signed");
    card.metadata["ruvector"]["signature"] = serde_json::to_value(signature).unwrap();
    card
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let limit = arguments.iter().position(|word| word == "--tasks-per-minute");
    let limit = limit.map(|at| arguments[at + 1].parse().expect("a number of tasks"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().unwrap());
    let key = SigningKey::from_bytes(&SEED);
    let card = signed_card(&url, &key);
    let bytes = serde_json::to_vec(&card).unwrap();
    let executor = Arc::new(Executor::Local(Arc::new(Skills::default())));
    let caps = GlobalBudget { max_tasks_per_minute: limit, ..GlobalBudget::default() };
    let budget = Arc::new(BudgetLedger::new(caps));
    let server = A2aServer::new(card, bytes, executor, budget, A2aServerConfig::default());
    SERVER.set(server.state().clone()).ok();
    let agent_id = agent_id_from_pubkey(&key.verifying_key()).to_string();
    println!("{}", json!({"url": url, "sdk": "rvagent-a2a 0.1.0", "agent_id": agent_id}));
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    axum::serve(listener, server.router()).await.expect("the server runs");
}
