package pybind

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/goproc/goproc/core/engine"
	"github.com/goproc/goproc/core/prefork"
	"github.com/goproc/goproc/core/process"
	"github.com/goproc/goproc/core/sys"
	"github.com/goproc/goproc/core/trace"
	"github.com/mattn/go-shellwords"
)

// ForkPrepare makes a process-table entry for a child about to be forked, and returns its id. ForkCommit or ForkAbort
// must follow.
func ForkPrepare() (int, error) {
	return call("ForkPrepare", func(e *engine.Engine) (int, error) { return e.Table.Prepare() })
}

// ForkCommit gives the entry its forked child and returns the sentinel. After an error there is no child: it has been
// ended and reaped.
func ForkCommit(id, pid int) (int, error) {
	return call("ForkCommit", func(e *engine.Engine) (int, error) { return e.Table.Commit(id, pid) })
}

// ForkAbort gives up an entry, because the fork failed.
func ForkAbort(id int) (int, error) {
	return do("ForkAbort", func(e *engine.Engine) error { return e.Table.Abort(id) })
}

// Spawn executes a program and returns its entry's id. argvJSON and envJSON are lists of strings, in which each
// character stands for one byte. keepFDsJSON lists the descriptors that the program inherits, under their numbers,
// besides 0, 1 and 2.
func Spawn(argvJSON, envJSON, keepFDsJSON string) (int, error) {
	return call("Spawn", func(e *engine.Engine) (int, error) {
		command, err := decodeCommand(argvJSON, envJSON, keepFDsJSON)
		if err != nil {
			return 0, err
		}
		return e.Table.Spawn(process.Spawn, command)
	})
}

// NoteOrigin notes what the process had before the engine was loaded: see sys.NoteOrigin. status is what
// /proc/self/status said then. The thread that has loaded the engine calls it.
func NoteOrigin(status string) (int, error) {
	return do("NoteOrigin", func(*engine.Engine) error {
		sys.NoteOrigin(status)
		return nil
	})
}

// SplitCommand splits a command line as a shell would, and returns a JSON list of strings. Variables and substitutions
// stay as they are. Operators are refused.
func SplitCommand(line string) (string, error) {
	return call("SplitCommand", func(*engine.Engine) (string, error) {
		parser := shellwords.NewParser()
		words, err := parser.Parse(line)
		switch {
		case err != nil:
			return "", fmt.Errorf("%w: the command line %q: %w", process.ErrInvalid, line, err)
		case parser.Position != -1:
			return "", fmt.Errorf("%w: the command line %q has a shell operator in it", process.ErrInvalid, line)
		case len(words) == 0:
			return "", fmt.Errorf("%w: the command line is empty", process.ErrInvalid)
		}
		return encodeJSON(words)
	})
}

// ForkserverEnsure starts a fork server with the command, unless one runs, and returns its process number. The
// arguments are as for Spawn. The command gets one more argument, the last: the number that the server's end of the
// socket has in it.
func ForkserverEnsure(argvJSON, envJSON, keepFDsJSON string) (int, error) {
	return call("ForkserverEnsure", func(e *engine.Engine) (int, error) {
		command, err := decodeCommand(argvJSON, envJSON, keepFDsJSON)
		if err != nil {
			return 0, err
		}
		return e.Forkserver.Ensure(command)
	})
}

// ForkserverRequest asks the fork server for a process, which gets copies of the descriptors in fdsJSON, and returns
// the request's number at once.
func ForkserverRequest(fdsJSON string) (int, error) {
	return call("ForkserverRequest", func(e *engine.Engine) (int, error) {
		fds, err := decodeFDs(fdsJSON)
		if err != nil {
			return 0, err
		}
		return e.Forkserver.Request(fds)
	})
}

// SpawnRequest asks the spawn server for a process, and returns the request's number at once. The process inherits the
// descriptors in fdsJSON, under their numbers, besides 0, 1 and 2. argvJSON and envJSON are the server's command, as
// for Spawn. If no server runs, the command starts one. If the running server was started by another command, or if
// something else that a program inherits has changed since, another server takes its place.
func SpawnRequest(argvJSON, envJSON, fdsJSON string) (int, error) {
	return call("SpawnRequest", func(e *engine.Engine) (int, error) {
		command, err := decodeCommand(argvJSON, envJSON, "[]")
		if err != nil {
			return 0, err
		}
		fds, err := decodeFDs(fdsJSON)
		if err != nil {
			return 0, err
		}
		return e.Spawner.RequestAlike(command, fds)
	})
}

// ServerReply waits for the answer to a request, at most timeoutMs milliseconds. method is the start method of the
// server that was asked. It returns the id of the process's entry, or 0 when there is no answer yet. After an error
// there is no process.
func ServerReply(method string, request, timeoutMs int) (int, error) {
	return withServer("ServerReply", method, func(c *prefork.Client) (int, error) {
		return c.Reply(request, milliseconds(timeoutMs))
	})
}

// ServerAbandon says that nobody will ask for the reply any more. If the request gets a process, that process is ended.
func ServerAbandon(method string, request int) (int, error) {
	return withServer("ServerAbandon", method, func(c *prefork.Client) (int, error) {
		c.Abandon(request)
		return 0, nil
	})
}

// ServerPing waits, at most timeoutMs milliseconds, for a sign of life of the server for the start method. It returns
// 1, or an error if none comes.
func ServerPing(method string, timeoutMs int) (int, error) {
	return withServer("ServerPing", method, func(c *prefork.Client) (int, error) {
		return 1, c.Ping(milliseconds(timeoutMs))
	})
}

// ServerPid is the process number of the server for the start method, 0 when none runs.
func ServerPid(method string) (int, error) {
	return withServer("ServerPid", method, func(c *prefork.Client) (int, error) { return c.Pid(), nil })
}

// ServerStop ends the server for the start method, if one runs, and waits until it is gone. After some two seconds it
// kills the server.
func ServerStop(method string) (int, error) {
	return withServer("ServerStop", method, func(c *prefork.Client) (int, error) { return 0, c.Stop() })
}

func withServer(where, method string, f func(c *prefork.Client) (int, error)) (int, error) {
	return call(where, func(e *engine.Engine) (int, error) {
		c, err := e.Server(method)
		if err != nil {
			return 0, err
		}
		return f(c)
	})
}

// Pid is the process number of the entry.
func Pid(id int) (int, error) {
	return call("Pid", func(e *engine.Engine) (int, error) { return e.Table.Pid(id) })
}

// Sentinel is the descriptor that is readable when the process has ended: its pidfd, or the read end of its tether. The
// table owns it.
func Sentinel(id int) (int, error) {
	return call("Sentinel", func(e *engine.Engine) (int, error) { return e.Table.Sentinel(id) })
}

// ExitCode is the exit code of the process, the negative number of the signal that ended it, or 1<<20 while it runs.
func ExitCode(id int) (int, error) {
	return call("ExitCode", func(e *engine.Engine) (int, error) { return e.Table.ExitCode(id) })
}

// Signal sends a signal to the process, unless it has ended.
func Signal(id, sig int) (int, error) {
	return do("Signal", func(e *engine.Engine) error { return e.Table.Signal(id, sig) })
}

// Forget says that nobody will ask about the entry any more: it is dropped when its process has ended.
func Forget(id int) (int, error) {
	return do("Forget", func(e *engine.Engine) error {
		e.Table.Settle(id) // a pool has not been told yet that its worker has ended, if the reaper has not been woken
		e.Table.Forget(id)
		return nil
	})
}

// Trace turns tracing on or off: the engine writes on standard error what it does.
func Trace(wanted bool) (int, error) {
	return do("Trace", func(*engine.Engine) error {
		trace.Set(wanted)
		return nil
	})
}

// Stats is a JSON object of counters: started (by start method), tasks, lost, timeouts, retries, running.
func Stats() (string, error) {
	return call("Stats", func(e *engine.Engine) (string, error) { return encodeJSON(e.Stats()) })
}

// Close stops the engine. Processes that still run go on without it. Every later call is refused.
func Close() (int, error) {
	return do("Close", func(e *engine.Engine) error { return e.Close() })
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// decodeCommand reads the arguments of Spawn.
func decodeCommand(argvJSON, envJSON, keepFDsJSON string) (c process.Command, err error) {
	if c.Argv, err = decodeBytes(argvJSON); err != nil {
		return c, err
	}
	if c.Env, err = decodeBytes(envJSON); err != nil {
		return c, err
	}
	c.Keep, err = decodeFDs(keepFDsJSON)
	return c, err
}

// decodeBytes reads a JSON list of strings that stand for bytes, one character each: neither JSON nor gopy carries
// strings that are not Unicode, and file names and variables need not be.
func decodeBytes(text string) ([]string, error) {
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("%w: a list of strings was expected: %w", process.ErrInvalid, err)
	}
	for i, s := range list {
		raw := make([]byte, 0, len(s))
		for _, r := range s {
			if r > 0xff {
				return nil, fmt.Errorf("%w: %q does not stand for bytes", process.ErrInvalid, s)
			}
			raw = append(raw, byte(r))
		}
		list[i] = string(raw)
	}
	return list, nil
}

// decodeFDs reads a JSON list of descriptors.
func decodeFDs(text string) ([]int, error) {
	var fds []int
	if err := json.Unmarshal([]byte(text), &fds); err != nil {
		return nil, fmt.Errorf("%w: a list of descriptors was expected: %w", process.ErrInvalid, err)
	}
	return fds, nil
}

func encodeJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}
