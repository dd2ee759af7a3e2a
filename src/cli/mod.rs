//! The command line: what was typed in, an exit code out.
//!
//! Exit codes: 0 for yes, 1 for no or for a fault in what was given, 2 for a command or a file of cases
//! that can't be read, and for a `doctor` that could not find out. Messages for people go to standard
//! error, results to standard output.

pub mod check;
mod doctor;
mod hash_password;
mod healthcheck;
mod password_input;
pub mod policy;
mod replace;
mod users;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Environment, Loaded, Settings};
use crate::fault::Fault;

/// May this request pass, and as whom?
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about = "Answers a reverse proxy: may this request pass, and as whom?")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the gate, the portal and the metrics page
    Serve {
        #[command(flatten)]
        config: ConfigFiles,
    },
    /// Read a configuration and report everything that is wrong with it
    Check {
        #[command(flatten)]
        config: ConfigFiles,
        /// Take dangerous patterns for errors, too
        #[arg(long)]
        strict: bool,
    },
    /// Ask the rules
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Make a password digest for the users file
    HashPassword(hash_password::HashPasswordArgs),
    /// List and change the accounts of the users file
    Users {
        #[command(flatten)]
        config: ConfigFiles,
        #[command(flatten)]
        args: users::UsersArgs,
    },
    /// Examine a proxy's configuration with spoofed and odd requests, standing in for the gate and the application
    Doctor(doctor::DoctorArgs),
    /// Ask a running server whether it answers
    Healthcheck {
        #[command(flatten)]
        config: ConfigFiles,
    },
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Show which rule decides about a request, and why the earlier ones do not
    Explain {
        #[command(flatten)]
        config: ConfigFiles,
        #[command(flatten)]
        args: policy::ExplainArgs,
    },
    /// Compare a table of expectations with what the rules decide
    Test {
        #[command(flatten)]
        config: ConfigFiles,
        #[command(flatten)]
        args: policy::TestArgs,
    },
}

/// Where the configuration stands.
#[derive(Args, Clone, Debug)]
pub struct ConfigFiles {
    /// A configuration file, or a folder of `.yml` and `.yaml` files; may be given several times, later ones win
    /// [default: what `X_AUTHELIA_CONFIG` names, else configuration.yml]
    #[arg(long = "config", short = 'c', value_name = "FILE", value_delimiter = ',')]
    files: Vec<PathBuf>,
}

impl ConfigFiles {
    /// The files in order, folders opened up by name.
    fn expand(&self, environment: &Environment) -> io::Result<Vec<PathBuf>> {
        let mut named = self.files.clone();
        if named.is_empty() {
            named = environment.files();
        }
        if named.is_empty() {
            named.push(PathBuf::from("configuration.yml"));
        }
        let mut files = Vec::new();
        for path in &named {
            if !path.is_dir() {
                files.push(path.clone());
                continue;
            }
            let mut inside = Vec::new();
            for entry in std::fs::read_dir(path)? {
                let path = entry?.path();
                if path.is_file() && path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
                {
                    inside.push(path);
                }
            }
            inside.sort();
            files.append(&mut inside);
        }
        Ok(files)
    }
}

/// Runs the command that this process was started with.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::stdout();
    match execute(cli.command, &mut out) {
        Ok(code) => code,
        // Whoever read our output has stopped reading; that is no fault.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command, out: &mut dyn Write) -> io::Result<ExitCode> {
    match command {
        Command::Serve { config } => serve(&config, out),
        Command::Check { config, strict } => {
            let environment = Environment::of_process();
            check::check(&config.expand(&environment)?, strict, &environment, out)
        }
        Command::Policy(PolicyCommand::Explain { config, args }) => {
            with_policy(&config, |policy| policy::explain(policy, &args, out))
        }
        Command::Policy(PolicyCommand::Test { config, args }) => {
            with_policy(&config, |policy| policy::test(policy, &args, out, &mut io::stderr()))
        }
        Command::HashPassword(args) => {
            let ask = || password_input::ask(args.password_stdin);
            Ok(told(hash_password::run(&args, &ask, out)))
        }
        Command::Users { config, args } => users(&config, &args, out),
        Command::Doctor(args) => doctor::run(&args, out, &mut io::stderr()),
        Command::Healthcheck { config } => match load(&config)? {
            Some(loaded) => healthcheck::run(&loaded.settings, out),
            None => Ok(ExitCode::FAILURE),
        },
    }
}

fn serve(config: &ConfigFiles, out: &mut dyn Write) -> io::Result<ExitCode> {
    let Some(loaded) = load(config)? else { return Ok(ExitCode::FAILURE) };
    Ok(told(crate::server::serve(loaded.settings, out)))
}

/// The users file that is named, or the one of the configuration.
fn users(config: &ConfigFiles, args: &users::UsersArgs, out: &mut dyn Write) -> io::Result<ExitCode> {
    let users = match &args.file {
        Some(path) => users::UsersFile::named(path),
        None => match load(config)? {
            Some(Loaded { settings, .. }) => {
                users::UsersFile { settings: settings.users, is_configured: true, new_digest: settings.hashing }
            }
            None => return Ok(ExitCode::FAILURE),
        },
    };
    let ask = || password_input::ask(args.command.password_stdin());
    match users::run(&args.command, &users, &ask, out, &mut io::stderr()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Says what went wrong, if anything did.
fn told(result: Result<(), Fault>) -> ExitCode {
    let Err(fault) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {}", fault.message);
    if let Some(help) = fault.help {
        eprintln!("  help: {help}");
    }
    ExitCode::FAILURE
}

/// Loads the configuration; what is wrong or doubtful goes to standard error.
fn load(config: &ConfigFiles) -> io::Result<Option<Loaded<Settings>>> {
    let environment = Environment::of_process();
    match config::load(&config.expand(&environment)?, &environment) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| eprintln!("{warning}"));
            Ok(Some(loaded))
        }
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            Ok(None)
        }
    }
}

fn with_policy(
    config: &ConfigFiles,
    ask: impl FnOnce(&crate::policy::Policy) -> io::Result<ExitCode>,
) -> io::Result<ExitCode> {
    let environment = Environment::of_process();
    match config::load_policy(&config.expand(&environment)?, &environment) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| eprintln!("{warning}"));
            ask(&loaded.settings)
        }
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            Ok(ExitCode::FAILURE)
        }
    }
}
