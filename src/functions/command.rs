//! A program that is started for each call.

mod talk;

use std::io;

use self::talk::{End, Output, Talk};
use super::output::{JobLog, plain, size};
use super::process::{self, Interrupt, ProcessOptions};
use super::{Body, Call};
use crate::protocol::{Arguments, CallError, Outcome};

/// What makes a [`Command`].
#[derive(Debug, Clone)]
pub struct CommandOptions {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// How it is started.
    pub process: ProcessOptions,
    /// How many bytes it may write to its standard output.
    pub max_output: usize,
    /// What it reads, and what becomes of what it writes.
    pub style: CommandStyle,
}

/// How a [`Command`] is talked to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CommandStyle {
    /// It gets the request, and what it writes to its standard output is the value.
    #[default]
    Call,
    /// As cron runs a job: it gets this text, and all that it writes is a log, of which the end is kept. It has ended when it has
    /// exited and nobody holds its output any more; what it left in the background and elsewhere stays.
    Job(String),
}

/// A program that is started for each call, without a shell.
///
/// In the style of a call it gets the request as a line of JSON on its standard input, and in `CERBAS_*` of its environment. What is larger
/// than 32 KiB, or comes when 128 KiB are full, or holds a NUL, is not in the environment but only on standard input:
/// the operating system would not start the program otherwise.
///
/// When the call is over, so is everything that was started for it, as far as it stayed in the process group. A call
/// that is cancelled also takes along what left it.
pub struct Command {
    options: CommandOptions,
}

impl Command {
    /// The body that runs `options.argv`.
    pub fn new(options: CommandOptions) -> Self {
        Command { options }
    }
}

impl Body for Command {
    fn run(&self, call: &Call, args: Arguments) -> Outcome {
        let failed = |error: io::Error| CallError::Failed(format!("command: {}", plain(&error)));
        let CommandOptions { argv, process, max_output, style } = &self.options;
        let interrupt = Interrupt::of(call, || ()).map_err(failed)?;
        let (input, environment) = match style {
            CommandStyle::Call => ([call.to_json(&args), vec![b'\n']].concat(), environment(call, args)),
            CommandStyle::Job(text) => (text.clone().into_bytes(), Vec::new()),
        };
        let (mut process, pipes) = process::start(argv, process, environment).map_err(CallError::Failed)?;
        let output = match style {
            CommandStyle::Call => Output::Value { bytes: Vec::new(), most: *max_output },
            CommandStyle::Job(_) => Output::Log(call.log.get_or_init(|| JobLog::of(*max_output)).clone()),
        };
        let mut talk = Talk::new(call, pipes, input, output);
        match talk.until_end(&process, &interrupt).map_err(failed)? {
            End::Exited if talk.is_of_job() => talk.outcome(process.reap()),
            End::Exited => talk.outcome(process.kill()),
            End::TooLarge => {
                process.terminate();
                Err(CallError::Failed(format!("output is larger than {}", size(*max_output))))
            }
            End::Over(reason) => {
                process.terminate();
                Err(call.cut_off(reason))
            }
        }
    }

    fn kind(&self) -> &'static str {
        "command"
    }
}

/// The largest text that goes into the environment; a single one can be 128 KiB for Linux.
const LARGEST_VARIABLE: usize = 32 << 10;

/// How much of a request goes into the environment altogether, a small part of what Linux allows.
const LARGEST_ENVIRONMENT: usize = 128 << 10;

/// The call as environment variables.
fn environment(call: &Call, args: Arguments) -> Vec<(String, String)> {
    let head = [
        ("CERBAS_FUNC", Some(call.func.clone())),
        ("CERBAS_ID", Some(call.id.to_string())),
        ("CERBAS_USER", call.user.clone()),
        ("CERBAS_SOURCE", call.source.clone()),
        ("CERBAS_TIMEOUT", Some(call.timeout.as_millis().to_string())),
        ("CERBAS_DEADLINE", Some(call.deadline_at.to_string())),
        ("CERBAS_CHAIN", serde_json::to_string(&call.chain_onward()).ok()),
    ];
    let head = head.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let args = args.iter().map(|(name, value)| (variable(name), value.to_text()));
    let mut left = LARGEST_ENVIRONMENT;
    let fits = |(name, value): &(String, String)| {
        let length = name.len() + value.len();
        let fits = length <= LARGEST_VARIABLE.min(left) && !value.contains('\0');
        left -= if fits { length } else { 0 };
        fits
    };
    head.chain(args).filter(fits).collect()
}

/// The variable in which the argument called `name` is.
fn variable(name: &str) -> String {
    let safe = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "CERBAS_ARG_".chars().chain(safe).collect()
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::testing::{
        arguments, call, call_within, eventually, is_our_child, json, marker, nothing, running, shell,
    };
    use super::*;
    use crate::protocol::Object;

    fn command(argv: Vec<String>) -> Command {
        Command::new(CommandOptions {
            argv,
            process: ProcessOptions::default(),
            max_output: 1 << 20,
            style: CommandStyle::Call,
        })
    }

    fn job(script: &str, input: &str) -> Command {
        let process = ProcessOptions { is_job: true, ..ProcessOptions::default() };
        Command::new(CommandOptions {
            argv: shell(script, &[]),
            process,
            max_output: 4096,
            style: CommandStyle::Job(input.to_owned()),
        })
    }

    fn outcome_of(script: &str, args: Arguments) -> Outcome {
        command(shell(script, &[])).run(&call(), args)
    }

    fn error_of(script: &str) -> String {
        outcome_of(script, nothing()).unwrap_err().to_string()
    }

    #[test]
    fn what_it_prints_is_the_value() {
        assert_eq!(outcome_of("echo '{\"a\": 1}'", nothing()), Ok(json!({"a": 1})));
        assert_eq!(outcome_of("echo hello; echo world", nothing()), Ok(json!("hello\nworld")));
        assert_eq!(outcome_of("echo noise >&2", nothing()), Ok(json!(null)));
    }

    #[test]
    fn it_gets_the_request_on_its_standard_input_as_one_line() {
        let request = outcome_of("cat", arguments(json!({"width": 80, "text": "a\nb"}))).unwrap();
        let request: Object = request.to().unwrap();
        assert_eq!(request.get("args"), Some(&json!({"width": 80, "text": "a\nb"})));
        assert_eq!(request.text("func").as_deref(), Some("test"));
        assert_eq!(outcome_of("wc -l", arguments(json!({"text": "a\nb"}))), Ok(json!(1)));
    }

    #[test]
    fn it_gets_the_request_in_its_environment() {
        let args = arguments(json!({"width": 80, "file-name": "a b", "größe": null, "list": [1, "x"]}));
        let script = "env | grep '^CERBAS' | sort";
        let expected = "CERBAS_ARG_FILE_NAME=a b\nCERBAS_ARG_GR__E=null\nCERBAS_ARG_LIST=[1,\"x\"]\n\
                        CERBAS_ARG_WIDTH=80\nCERBAS_CHAIN=[\"first\",\"test\"]\n\
                        CERBAS_DEADLINE=1700000000000\nCERBAS_FUNC=test\nCERBAS_ID=test-1\nCERBAS_TIMEOUT=30000\nCERBAS_USER=peter";
        let command = Command::new(CommandOptions {
            argv: shell(script, &[]),
            process: ProcessOptions { env: [("LC_ALL".into(), "C".into())].into(), ..Default::default() },
            max_output: 1 << 20,
            style: CommandStyle::Call,
        });
        assert_eq!(command.run(&call(), args), Ok(json!(expected)));
    }

    #[test]
    fn arguments_that_the_environment_cannot_hold_are_on_standard_input_only() {
        let many: Object = (0..100).map(|number| (format!("many{number}").into(), json!("x".repeat(30_000)))).collect();
        let mut args = arguments(json!({"large": "x".repeat(1 << 20), "nul": "a\0b", "ok": "fine"}));
        args.extend(many);
        let script = "wc -c >&2; env | grep -c '^CERBAS_ARG_MANY'; env | grep -c '^CERBAS_ARG_[LN]'; true";
        assert_eq!(outcome_of(script, args), Ok(json!("4\n0")));
    }

    #[test]
    fn it_need_not_read_what_it_gets() {
        let large = || arguments(json!({"large": "x".repeat(1 << 20)}));
        assert_eq!(outcome_of("echo 1", large()), Ok(json!(1)));
        assert_eq!(outcome_of("exec <&-; echo 2; sleep 0.05", large()), Ok(json!(2)));
        assert_eq!(outcome_of("head -c 10 >&2; echo 3", large()), Ok(json!(3)));
        assert_eq!(outcome_of("wc -c", large()).unwrap().to().ok().map(|length: u64| length > 1 << 20), Some(true));
    }

    #[test]
    fn a_failure_is_told_in_its_own_words() {
        assert_eq!(error_of("echo 'no such picture' >&2; exit 1"), "no such picture");
        assert_eq!(error_of("echo ignored; exit 3"), "exit status 3");
        assert_eq!(error_of("kill -9 $$"), "killed by signal 9 (SIGKILL)");
        assert_eq!(error_of("echo 'so far' >&2; kill -9 $$"), "killed by signal 9 (SIGKILL): so far");
        let long = error_of("i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1");
        assert!(long.starts_with("line ") && long.ends_with("line 1999") && long.len() <= 2048, "{long}");
        let missing = command(vec!["/no/such".to_owned()]).run(&call(), nothing()).unwrap_err();
        assert_eq!(missing.to_string(), "cannot run \"/no/such\": No such file or directory");
    }

    #[test]
    fn a_job_has_its_own_input_and_the_environment_of_cron() {
        let script =
            "cat; env | cut -d= -f1 | grep -v -e PWD -e SHLVL -e '^_$' | sort | tr '\\n' ' '; echo $PATH $SHELL";
        let expected = "one\ntwo\nHOME LOGNAME PATH SHELL USER /usr/bin:/bin /bin/sh";
        assert_eq!(job(script, "one\ntwo\n").run(&call(), nothing()), Ok(json!(expected)));
        assert_eq!(job("test \"$PWD\" = \"$HOME\"", "").run(&call(), nothing()), Ok(json!("")));
    }

    #[test]
    fn the_log_of_a_job_is_all_that_it_writes_in_order_and_bounded() {
        let script = "echo one; echo two >&2; echo three; exit 3";
        let failed = CallError::Failed("exit status 3\none\ntwo\nthree".to_owned());
        assert_eq!(job(script, "").run(&call(), nothing()), Err(failed));
        let long = job("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done", "");
        let log = long.run(&call(), nothing()).unwrap();
        let log = log.as_text().unwrap();
        assert!(log.len() <= 4096 && log.starts_with("line ") && log.ends_with("line 19999"), "{log}");
        assert_eq!(
            job("kill -9 $$", "").run(&call(), nothing()).unwrap_err().to_string(),
            "killed by signal 9 (SIGKILL)"
        );
    }

    #[test]
    fn a_job_lasts_as_long_as_its_output_and_what_it_leaves_elsewhere_stays() {
        let slow = job("(sleep 0.05; echo late) & echo soon", "");
        assert_eq!(slow.run(&call(), nothing()), Ok(json!("soon\nlate")));
        let marker = marker();
        let left = job(&format!("sleep {marker} >/dev/null 2>&1 & echo $!"), "");
        let pid = left.run(&call(), nothing()).unwrap();
        let pid: u32 = pid.to_text().parse().unwrap();
        assert_eq!(running(&marker), [pid]);
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn a_job_past_its_time_is_gone_with_all_it_started() {
        let marker = marker();
        let script = format!("trap '' TERM; setsid sleep {marker} & sleep {marker} & wait");
        let outcome = job(&script, "").run(&call_within(Duration::from_millis(100)), nothing());
        assert_eq!(outcome, Err(CallError::TimedOut));
        eventually("all are gone", || running(&marker).is_empty());
    }

    #[test]
    fn output_without_end_is_an_error_and_the_program_is_gone() {
        let marker = marker();
        let command = command(shell("trap '' TERM; while :; do echo $1; done", &[&marker]));
        let error = command.run(&call(), nothing()).unwrap_err();
        assert_eq!(error.to_string(), "output is larger than 1 MiB");
        assert!(running(&marker).is_empty());
    }

    #[test]
    fn output_of_just_the_limit_is_fine() {
        let print = |count: usize| format!("head -c {count} /dev/zero | tr '\\0' x");
        assert_eq!(outcome_of(&print(1 << 20), nothing()), Ok(json!("x".repeat(1 << 20))));
        assert_eq!(error_of(&print((1 << 20) + 1)), "output is larger than 1 MiB");
    }

    #[test]
    fn a_child_left_behind_neither_delays_the_answer_nor_lives_on() {
        let marker = marker();
        let start = Instant::now();
        let outcome = command(shell("sleep $1 & echo started", &[&marker])).run(&call(), nothing());
        assert_eq!(outcome, Ok(json!("started")));
        assert!(start.elapsed() < Duration::from_secs(20));
        eventually("it is gone", || running(&marker).is_empty());
    }

    #[test]
    fn a_cancelled_command_is_gone_with_all_it_started() {
        let marker = marker();
        let script = "trap '' TERM; (trap '' TERM; sleep $1; sleep $1) &
                      setsid sh -c 'trap \"\" TERM; sleep $1; sleep $1' sh $1 & wait";
        let command = command(shell(script, &[&marker]));
        let call = call();
        let cancel = call.cancel.clone();
        let (ours, stopped) = thread::scope(|scope| {
            let run = scope.spawn(|| command.run(&call, nothing()));
            eventually("all five run", || running(&marker).len() == 5);
            let ours: Vec<u32> = running(&marker).into_iter().filter(|&pid| is_our_child(pid)).collect();
            let start = Instant::now();
            cancel.cancel();
            assert_eq!(run.join().unwrap(), Err(CallError::Cancelled));
            (ours, start.elapsed())
        });
        assert!(stopped < Duration::from_secs(1), "{stopped:?}");
        assert_eq!(ours.len(), 1);
        assert!(!is_our_child(ours[0]), "it is a zombie");
        eventually("all are gone", || running(&marker).is_empty());
    }

    #[test]
    fn a_call_that_was_cancelled_before_it_ran_ends_at_once() {
        let call = call();
        call.cancel.cancel();
        assert_eq!(command(shell("sleep 60", &[])).run(&call, nothing()), Err(CallError::Cancelled));
    }

    #[test]
    fn a_command_ends_at_its_deadline_even_if_nobody_cancels() {
        let call = call_within(Duration::from_millis(50));
        assert_eq!(command(shell("exec >&- 2>&-; sleep 60", &[])).run(&call, nothing()), Err(CallError::TimedOut));
    }
}
