//! From the configuration of a function to the function itself.

use super::{BodyConfig, CommandConfig, FunctionConfig, HttpConfig, ProcessConfig, WorkerConfig};
use crate::functions::{
    Body, Builtin, Command, CommandOptions, CommandStyle, Function, House, Http, HttpOptions, ProcessOptions,
    ResourceLimits, Worker, WorkerOptions, check_program,
};

/// The function `name`, in `house`.
pub fn build(name: &str, config: &FunctionConfig, house: House) -> Function {
    let body: Box<dyn Body> = match &config.body {
        BodyConfig::Builtin(function) => Box::new(Builtin::new(*function, house)),
        BodyConfig::Command(command) => Box::new(Command::new(command_options(command))),
        BodyConfig::Worker(worker) => Box::new(Worker::new(worker_options(name, worker))),
        BodyConfig::Http(http) => Box::new(Http::new(http_options(http))),
    };
    Function { name: name.to_owned(), terms: config.terms.clone(), body }
}

/// What would keep the function from running on this machine, a line each.
pub(super) fn check(config: &FunctionConfig) -> Vec<String> {
    match &config.body {
        BodyConfig::Command(command) => check_program(&command.argv, &process_options(&command.process)),
        BodyConfig::Worker(worker) => check_program(&worker.argv, &process_options(&worker.process)),
        // An HTTP server may well start after us.
        BodyConfig::Builtin(_) | BodyConfig::Http(_) => Vec::new(),
    }
}

fn command_options(config: &CommandConfig) -> CommandOptions {
    CommandOptions {
        argv: config.argv.clone(),
        process: process_options(&config.process),
        max_output: config.max_output,
        style: CommandStyle::Call,
    }
}

fn worker_options(name: &str, config: &WorkerConfig) -> WorkerOptions {
    WorkerOptions {
        name: name.to_owned(),
        argv: config.argv.clone(),
        processes: config.processes,
        process: process_options(&config.process),
        max_output: config.max_output,
    }
}

fn http_options(config: &HttpConfig) -> HttpOptions {
    HttpOptions { url: config.url.clone(), headers: config.headers.clone(), max_output: config.max_output }
}

fn process_options(config: &ProcessConfig) -> ProcessOptions {
    let limits = config.limits;
    ProcessOptions {
        env: config.env.clone(),
        cwd: Some(config.cwd.clone()),
        user: config.user.clone(),
        nice: config.nice,
        limits: ResourceLimits {
            memory: limits.memory,
            cpu: limits.cpu.map(|time| time.as_secs()),
            open_files: limits.open_files,
            processes: limits.processes,
            file_size: limits.file_size,
        },
        is_job: false,
    }
}
