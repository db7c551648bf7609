//! The commands, and how a request finds its handler.

use std::collections::BTreeMap;
use std::fmt::Write;
use tokio::sync::oneshot;

/// As a maximum number of arguments: no maximum.
pub const UNLIMITED: usize = usize::MAX;

/// The obligation to answer one request. It may be kept and used later; dropped, it answers with an error.
#[derive(Debug)]
pub struct Reply {
    sender: oneshot::Sender<Result<String, String>>,
}

impl Reply {
    /// A reply and the receiver on which its answer arrives.
    pub fn new() -> (Self, oneshot::Receiver<Result<String, String>>) {
        let (sender, receiver) = oneshot::channel();
        (Reply { sender }, receiver)
    }

    /// The command succeeded; `text` is what the tool prints.
    pub fn ok(self, text: impl Into<String>) {
        self.send(Ok(text.into()));
    }

    /// The command failed; the tool prints `text` and exits with status 2.
    pub fn error(self, text: impl Into<String>) {
        self.send(Err(text.into()));
    }

    /// Either of the two.
    pub fn send(self, answer: Result<String, String>) {
        // A client that went away no longer wants the answer.
        let _ = self.sender.send(answer);
    }
}

/// One command as it came from the socket, for the owner of the registry.
#[derive(Debug)]
pub struct Request {
    pub command: String,
    pub args: Vec<String>,
    pub reply: Reply,
}

type Handler<Ctx> = Box<dyn Fn(&mut Ctx, &[&str], Reply) + Send>;

struct Command<Ctx> {
    /// `None` hides the command from `list-commands`.
    usage: Option<String>,
    min_args: usize,
    max_args: usize,
    handler: Handler<Ctx>,
}

/// Commands over a state `Ctx`. `list-commands` is always there.
pub struct Registry<Ctx> {
    commands: BTreeMap<String, Command<Ctx>>,
}

const LIST: &str = "list-commands";

impl<Ctx: 'static> Default for Registry<Ctx> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Ctx: 'static> Registry<Ctx> {
    pub fn new() -> Self {
        let mut registry = Registry { commands: BTreeMap::new() };
        // `dispatch` answers this one itself, since its answer is the registry.
        registry.add(LIST, "", 0, 0, |_, _, reply| reply.ok(""));
        registry
    }

    /// Adds a command that takes `min` to `max` arguments ([`UNLIMITED`]: any number). The handler gets the
    /// arguments without the command's name. A command of the same name is replaced.
    pub fn add(
        &mut self,
        name: &str,
        usage: &str,
        min: usize,
        max: usize,
        handler: impl Fn(&mut Ctx, &[&str], Reply) + Send + 'static,
    ) -> &mut Self {
        self.insert(name, Some(usage), min, max, Box::new(handler))
    }

    /// Like [`add`](Self::add), but `list-commands` does not show it: old names of commands.
    pub fn add_hidden(
        &mut self,
        name: &str,
        min: usize,
        max: usize,
        handler: impl Fn(&mut Ctx, &[&str], Reply) + Send + 'static,
    ) -> &mut Self {
        self.insert(name, None, min, max, Box::new(handler))
    }

    /// Like [`add`](Self::add) for a handler that answers at once.
    pub fn add_sync(
        &mut self,
        name: &str,
        usage: &str,
        min: usize,
        max: usize,
        handler: impl Fn(&mut Ctx, &[&str]) -> Result<String, String> + Send + 'static,
    ) -> &mut Self {
        self.add(name, usage, min, max, move |ctx, args, reply| reply.send(handler(ctx, args)))
    }

    fn insert(
        &mut self,
        name: &str,
        usage: Option<&str>,
        min_args: usize,
        max_args: usize,
        handler: Handler<Ctx>,
    ) -> &mut Self {
        let command = Command { usage: usage.map(str::to_owned), min_args, max_args, handler };
        self.commands.insert(name.to_owned(), command);
        self
    }

    /// Takes over all commands of a part of the daemon; `part` finds that part's state.
    pub fn mount<Part: 'static>(
        &mut self,
        registry: Registry<Part>,
        part: impl Fn(&mut Ctx) -> &mut Part + Clone + Send + 'static,
    ) -> &mut Self {
        for (name, command) in registry.commands {
            if name == LIST {
                continue;
            }
            let (part, inner) = (part.clone(), command.handler);
            let handler: Handler<Ctx> = Box::new(move |ctx, args, reply| inner(part(ctx), args, reply));
            let Command { usage, min_args, max_args, .. } = command;
            self.commands.insert(name, Command { usage, min_args, max_args, handler });
        }
        self
    }

    /// Runs a request's handler, or answers it with the error that Open vSwitch has for it.
    pub fn dispatch(&self, ctx: &mut Ctx, request: Request) {
        let Request { command: name, args, reply } = request;
        let Some(command) = self.commands.get(&name) else {
            return reply.error(format!(
                "\"{name}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
            ));
        };
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        if args.len() < command.min_args {
            reply.error(format!("\"{name}\" command requires at least {} arguments", command.min_args));
        } else if args.len() > command.max_args {
            reply.error(format!("\"{name}\" command takes at most {} arguments", command.max_args));
        } else if name == LIST {
            reply.ok(self.list());
        } else {
            (command.handler)(ctx, &args, reply);
        }
    }

    /// The reply of `list-commands`.
    pub fn list(&self) -> String {
        let mut out = String::from("The available commands are:\n");
        for (name, command) in &self.commands {
            if let Some(usage) = &command.usage {
                let _ = writeln!(out, "  {name:<23} {usage}");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call<C: 'static>(
        r: &Registry<C>,
        ctx: &mut C,
        command: &str,
        args: &[&str],
    ) -> Result<String, String> {
        let (reply, mut answer) = Reply::new();
        let args = args.iter().map(|s| s.to_string()).collect();
        r.dispatch(ctx, Request { command: command.into(), args, reply });
        answer.try_recv().unwrap()
    }

    fn sample() -> Registry<u32> {
        let mut r = Registry::new();
        r.add_sync("sum/add", "n [m]", 1, 2, |sum: &mut u32, args| {
            for arg in args {
                *sum += arg.parse::<u32>().map_err(|e| e.to_string())?;
            }
            Ok(sum.to_string())
        });
        r.add_hidden("sum/old", 0, UNLIMITED, |_, _, reply| reply.error("gone"));
        r
    }

    #[test]
    fn errors_are_worded_as_in_open_vswitch() {
        let r = sample();
        let err = |command, args: &[&str]| call(&r, &mut 0, command, args).unwrap_err();
        assert_eq!(
            err("foo", &[]),
            "\"foo\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
        );
        assert_eq!(err("sum/add", &[]), "\"sum/add\" command requires at least 1 arguments");
        assert_eq!(err("sum/add", &["1", "2", "3"]), "\"sum/add\" command takes at most 2 arguments");
        assert_eq!(err("list-commands", &["1"]), "\"list-commands\" command takes at most 0 arguments");
        assert_eq!(err("sum/old", &["1", "2", "3"]), "gone");
    }

    #[test]
    fn mounted_commands_reach_their_part() {
        struct Daemon {
            sum: u32,
        }
        let mut r = Registry::<Daemon>::new();
        r.mount(sample(), |d: &mut Daemon| &mut d.sum);
        let mut daemon = Daemon { sum: 1 };
        assert_eq!(call(&r, &mut daemon, "sum/add", &["2", "3"]).as_deref(), Ok("6"));
        assert_eq!(daemon.sum, 6);
        let list = call(&r, &mut daemon, "list-commands", &[]).unwrap();
        assert_eq!(
            list,
            "The available commands are:\n  list-commands           \n  sum/add                 n [m]\n"
        );
    }
}
