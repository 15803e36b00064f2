//! Commands on a lab that is up.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use terminal::Table;

use super::{
    CutArgs, DownArgs, HostArgs, LogsArgs, OutputArgs, PlaceArgs, RunArgs, ServiceArgs, StartArgs,
    StatusArgs, display,
};
use crate::host::{self, Condition};
use crate::lab::{self, Lab};
use crate::registry;
use crate::state::{LabState, ServiceState};

pub(super) fn down(args: DownArgs) -> Result<ExitCode> {
    if !args.all {
        let dir =
            std::path::absolute(args.place.dir()?).context("cannot resolve the directory of the lab")?;
        if LabState::read(&dir)?.is_none() {
            bail!(
                "nothing to stop: no lab is up in {}; `mainstay lab list` shows those that are",
                dir.display()
            );
        }
        let name = lab::stop_from_outside(&dir)?;
        say_down(&name, &dir);
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    let mut nothing = true;
    for dir in registry::all()? {
        if LabState::read(&dir)?.is_none() {
            // Its directory was cleared or deleted without us.
            registry::forget(&dir)?;
            continue;
        }
        nothing = false;
        // One lab that cannot be stopped must not keep the others up.
        match lab::stop_from_outside(&dir).and_then(|name| registry::forget(&dir).map(|()| name)) {
            Ok(name) => say_down(&name, &dir),
            Err(error) => {
                display::error(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    for line in lab::clear_abandoned()? {
        nothing = false;
        display::say(&line);
    }
    if nothing {
        display::say("nothing to stop: no lab of this user is up");
    }
    Ok(code)
}

fn say_down(name: &str, dir: &Path) {
    display::say(&format!(
        "lab {name} is down; its data and logs are in {}",
        dir.display()
    ));
}

pub(super) fn status(args: StatusArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.place.dir()?)?;
    let state = lab.state()?;
    let mut all_run = true;
    let mut table = Table::new(["HOST", "ADDRESS", "SERVICE", "STATE", "PID", "READY"]);
    let mut services = vec![];
    let mut remarks = vec![];
    for host in &state.hosts {
        for service in &host.services {
            let condition = lab.host(&host.name)?.condition(&service.name)?;
            remarks.extend(remark(&host.name, service, condition));
            all_run &= condition.is_ready();
            let pid = service.pid.filter(|_| condition.runs());
            table.row([
                host.name.clone(),
                host.address.to_string(),
                service.name.clone(),
                condition.name().to_owned(),
                pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
                service.ready.clone(),
            ]);
            services.push(serde_json::json!({
                "host": host.name, "address": host.address, "service": service.name, "state": condition.name(),
                "pid": pid, "ready": service.ready, "log": service.log,
            }));
        }
    }
    if args.output.format.is_json() {
        terminal::print_json(&serde_json::json!({
            "name": state.name, "form": state.form, "dir": lab.dir(), "owner": state.owner, "services": services,
        }))?;
    } else {
        let (form, dir) = (state.form.name(), lab.dir().display());
        terminal::out(&format!(
            "lab {} ({form}, {}) in {dir}\n\n",
            state.name,
            display::holder(state.owner)
        ));
        table.print();
        for line in remarks {
            display::say(&line);
        }
        if state.owner.is_some_and(|owner| !owner.is_alive()) {
            display::say(
                "what is left of the lab is stopped by the next `mainstay up`, or by `mainstay down`",
            );
        }
    }
    Ok(if all_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the state of a service means, where its word alone does not say.
fn remark(host: &str, service: &ServiceState, condition: Condition) -> Option<String> {
    let (name, log) = (&service.name, &service.log);
    match (condition, service.pid) {
        (Condition::NotReady, Some(pid)) => Some(format!(
            "{name} on {host}: process {pid} runs, but {} does not say that it is ready: it is starting, or it hangs; its \
             log is {log}",
            service.ready
        )),
        (Condition::Dead, Some(pid)) => Some(format!(
            "{name} on {host}: process {pid} has ended; its log is {log}"
        )),
        _ => None,
    }
}

pub(super) fn list(output: OutputArgs) -> Result<ExitCode> {
    let mut table = Table::new(["NAME", "FORM", "STATE", "HOSTS", "DIR"]).numeric(&["HOSTS"]);
    let mut labs = vec![];
    for dir in registry::all()? {
        let Some(state) = LabState::read(&dir)? else {
            registry::forget(&dir)?;
            continue;
        };
        let condition = match state.owner {
            Some(owner) if !owner.is_alive() => "crashed",
            None if state.leftovers().next().is_none() => "stopped",
            _ => "up",
        };
        table.row([
            state.name.clone(),
            state.form.name().into(),
            condition.into(),
            state.hosts.len().to_string(),
            dir.display().to_string(),
        ]);
        labs.push(serde_json::json!({
            "name": state.name, "form": state.form, "state": condition, "hosts": state.hosts.len(), "dir": dir,
        }));
    }
    if output.format.is_json() {
        terminal::print_json(&labs)?;
    } else {
        table.print();
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn logs(args: LogsArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.service.place.dir()?)?;
    pass_through(lab.host(&args.service.host)?.logs_command(
        &args.service.service,
        args.lines,
        args.follow,
    )?)
}

pub(super) fn run(args: RunArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.place.dir()?)?;
    let host = lab.host(&args.host)?;
    let (program, rest) = args.words.split_first().context("no command given")?;
    let command = if rest.is_empty() {
        host.command("sh", &["-c".into(), program.clone()])?
    } else {
        host.command(program, rest)?
    };
    pass_through(command)
}

/// Runs a command with our own input and output, and takes over its exit code.
fn pass_through(mut command: Command) -> Result<ExitCode> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    Ok(ExitCode::from(host::exit_code(status) as u8))
}

/// `chainfire on node1 is ready (process 812)`: what a command has made of a service.
fn tell(lab: &Lab, args: &ServiceArgs, what: &str, pid: Option<u32>) -> Result<ExitCode> {
    let pid = match pid {
        Some(pid) => Some(pid),
        None => lab.host(&args.host)?.state()?.pid_of(&args.service),
    };
    let process = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    display::say(&format!("{} on {} {what}{process}", args.service, args.host));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn start(args: StartArgs) -> Result<ExitCode> {
    let StartArgs { service, no_wait } = args;
    let lab = Lab::open(&service.place.dir()?)?;
    let host = lab.host(&service.host)?;
    if no_wait {
        host.launch(&service.service)?;
        return tell(&lab, &service, "is starting", None);
    }
    host.start(&service.service)?;
    tell(&lab, &service, "is ready", None)
}

pub(super) fn stop(args: ServiceArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.place.dir()?)?;
    let host = lab.host(&args.host)?;
    let pid = host.state()?.pid_of(&args.service);
    host.stop(&args.service)?;
    tell(&lab, &args, "is stopped", pid)
}

pub(super) fn kill(args: ServiceArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.place.dir()?)?;
    let host = lab.host(&args.host)?;
    let pid = host.state()?.pid_of(&args.service);
    host.kill(&args.service)?;
    tell(&lab, &args, "was killed", pid)
}

pub(super) fn kill_power(args: HostArgs) -> Result<ExitCode> {
    Lab::open(&args.place.dir()?)?.host(&args.host)?.kill_power()?;
    display::say(&format!("{} has no power; `lab boot` switches it on", args.host));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn boot(args: HostArgs) -> Result<ExitCode> {
    Lab::open(&args.place.dir()?)?.host(&args.host)?.boot()?;
    display::say(&format!("{} is up", args.host));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn cut(args: CutArgs) -> Result<ExitCode> {
    let lab = Lab::open(&args.place.dir()?)?;
    let (a, b) = (&args.a, &args.b);
    if args.one_way {
        lab.cut_one_way(a, b)?;
        display::say(&format!(
            "packets from {a} to {b} are dropped; `lab heal` undoes it"
        ));
    } else {
        lab.cut(a, b)?;
        display::say(&format!(
            "packets between {a} and {b} are dropped; `lab heal` undoes it"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn heal(args: PlaceArgs) -> Result<ExitCode> {
    Lab::open(&args.dir()?)?.heal()?;
    display::say("no packet is dropped any more");
    Ok(ExitCode::SUCCESS)
}
