package pybind

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/leakcheck"
	"github.com/goproc/goproc/core/pool"
	"github.com/goproc/goproc/core/prefork"
	"github.com/goproc/goproc/core/process"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestMain uses the one engine of the process for all tests, and closes it at the end as Python does. Executed with
// GOPROC_TEST_PANIC set, it panics there instead.
func TestMain(m *testing.M) {
	if where := os.Getenv("GOPROC_TEST_PANIC"); where != "" {
		_, err := DebugPanic(where)
		fmt.Println(err)
		_, err = Pid(1)
		fmt.Println(err)
		os.Exit(0)
	}
	code := m.Run()
	if _, err := Close(); err != nil {
		panic(err)
	}
	if _, err := Pid(1); err == nil || !strings.HasPrefix(err.Error(), "goproc:CLOSED:0:") {
		panic(err)
	}
	if left := leakcheck.Settled(); len(left) > 0 {
		panic(strings.Join(left, "\n"))
	}
	os.Exit(code)
}

// list makes a JSON list.
func list[T any](elements ...T) string {
	text, err := json.Marshal(append([]T{}, elements...))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// exitOf waits for the end of a process as Python does, by its sentinel.
func exitOf(t *testing.T, id int) int {
	t.Helper()
	sentinel, err := Sentinel(id)
	require.NoError(t, err)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(sentinel), Events: unix.POLLIN}}, 20_000)
		if err != unix.EINTR {
			require.NoError(t, err)
			break
		}
	}
	status, err := ExitCode(id)
	require.NoError(t, err)
	return status
}

func TestSpawn(t *testing.T) {
	// The argument and the variable are the bytes 0xe9 and 0xff, which are not UTF-8.
	script := `test "$1" = "$(printf '\351')" && test "$A" = "$(printf '\377')"`
	id, err := Spawn(list("/bin/sh", "-c", script, "sh", "é"), list("A=ÿ"), "[]")
	require.NoError(t, err)
	pid, err := Pid(id)
	require.NoError(t, err)
	assert.Positive(t, pid)
	assert.Zero(t, exitOf(t, id))
	_, err = Forget(id)
	require.NoError(t, err)
}

func TestSignalAndStats(t *testing.T) {
	id, err := Spawn(list("sleep", "1000"), "[]", "[]")
	require.NoError(t, err)
	status, err := ExitCode(id)
	require.NoError(t, err)
	assert.Equal(t, 1<<20, status)
	text, err := Stats()
	require.NoError(t, err)
	var stats struct {
		Started map[string]int
		Running int
	}
	require.NoError(t, json.Unmarshal([]byte(text), &stats))
	assert.Positive(t, stats.Started["spawn"])
	assert.Equal(t, 1, stats.Running)
	_, err = Signal(id, 15)
	require.NoError(t, err)
	assert.Equal(t, -15, exitOf(t, id))
	_, err = Forget(id)
	require.NoError(t, err)
}

func TestFork(t *testing.T) {
	id, err := ForkPrepare()
	require.NoError(t, err)
	command := exec.Command("/bin/sh", "-c", "exit 3") // C's part
	require.NoError(t, command.Start())
	sentinel, err := ForkCommit(id, command.Process.Pid)
	require.NoError(t, err)
	got, err := Sentinel(id)
	require.NoError(t, err)
	assert.Equal(t, sentinel, got)
	assert.Equal(t, 3, exitOf(t, id))
	require.NoError(t, command.Process.Release())
	_, err = Forget(id)
	require.NoError(t, err)

	id, err = ForkPrepare()
	require.NoError(t, err)
	_, err = ForkAbort(id)
	require.NoError(t, err)
}

func TestForkserverThatEnds(t *testing.T) {
	pid, err := ServerPid("forkserver")
	require.NoError(t, err)
	assert.Zero(t, pid)
	_, err = ServerPing("forkserver", 1)
	require.ErrorContains(t, err, "goproc:GONE:0:")
	_, err = ForkserverRequest("[]")
	require.ErrorContains(t, err, "goproc:GONE:0:")

	// The last argument is the number of a descriptor, which is a socket.
	pid, err = ForkserverEnsure(list("/bin/sh", "-c", "test -S /proc/$$/fd/$0 && exec sleep 1000"), "[]", "[]")
	require.NoError(t, err)
	assert.Positive(t, pid)
	_, err = ServerPing("forkserver", 1)
	require.ErrorContains(t, err, fmt.Sprintf("goproc:OS:%d:", unix.ETIMEDOUT))
	id, err := ForkserverRequest("[]")
	require.NoError(t, err)
	process, err := ServerReply("forkserver", id, 1)
	require.NoError(t, err)
	assert.Zero(t, process)
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	_, err = ServerReply("forkserver", id, int(20*time.Second/time.Millisecond))
	require.ErrorContains(t, err, "goproc:GONE:0:")
	_, err = ServerStop("forkserver")
	require.NoError(t, err)
}

func TestSplitCommand(t *testing.T) {
	for line, want := range map[string][]string{
		"python3 -X dev":           {"python3", "-X", "dev"},
		`'/a b/python' -c "x = 1"`: {"/a b/python", "-c", "x = 1"},
		"python3 $HOME":            {"python3", "$HOME"},
		"  python3\t-u ":           {"python3", "-u"},
		"pythön":                   {"pythön"},
	} {
		text, err := SplitCommand(line)
		require.NoError(t, err, line)
		var words []string
		require.NoError(t, json.Unmarshal([]byte(text), &words))
		assert.Equal(t, want, words)
	}
	for _, line := range []string{"", "   ", "python3 'open", "python3; rm x", "python3 | cat", "python3 > x"} {
		_, err := SplitCommand(line)
		require.ErrorContains(t, err, "goproc:INVALID:0:", "%q", line)
	}
}

func TestBadArguments(t *testing.T) {
	for _, err := range []error{
		second(Spawn("not JSON", "[]", "[]")),
		second(Spawn("[]", "[]", "[]")),
		second(Spawn(`["€"]`, "[]", "[]")),
		second(Spawn(`["true"]`, "{}", "[]")),
		second(Spawn(`["true"]`, "[]", `["x"]`)),
		second(Spawn(`["true"]`, "[]", "[-1]")),
		second(Spawn(`["true", "a\u0000b"]`, "[]", "[]")),
		second(ForkserverEnsure("[]", "[]", "[1")),
		second(ServerReply("forkserver", 12345, 0)),
		second(ServerReply("fork", 1, 0)),
		second(ForkCommit(12345, 0)),
		second(ForkAbort(12345)),
		second(Pid(-1)),
		second(Sentinel(0)),
		second(ExitCode(12345)),
		second(Signal(12345, 9)),
		second(DebugPanic("nowhere")),
	} {
		require.ErrorContains(t, err, "goproc:INVALID:0:")
	}
	require.ErrorContains(t, second(Spawn(`["/nowhere"]`, "[]", "[]")), "goproc:OS:2:")
	require.NoError(t, second(Forget(12345)))
}

func second(_ int, err error) error { return err }

func TestEncodeError(t *testing.T) {
	for want, err := range map[string]error{
		"goproc:OS:24:":      fmt.Errorf("open: %w", unix.EMFILE),
		"goproc:CLOSED:0:":   errors.Join(process.ErrClosed, unix.EBADF),
		"goproc:GONE:0:":     fmt.Errorf("%w: %w", prefork.ErrGone, unix.EPIPE),
		"goproc:POISONED:0:": guard.ErrPoisoned,
		"goproc:INVALID:0:":  fmt.Errorf("%w: -1", process.ErrInvalid),
		"goproc:NO_POOL:0:":  fmt.Errorf("%w: %w: 7", pool.ErrClosed, pool.ErrNone),
		"goproc:INTERNAL:0:": errors.New("anything else"),
	} {
		assert.Equal(t, want+err.Error(), encodeError(err).Error())
	}
	require.NoError(t, encodeError(nil))
}

func TestPanic(t *testing.T) {
	for where, want := range map[string][]string{
		"call": {
			"goproc:POISONED:0:the goproc engine is poisoned by an internal error: panic in DebugPanic: provoked by DebugPanic",
			"goproc:POISONED:0:the goproc engine is poisoned by an internal error: panic in DebugPanic: provoked by DebugPanic",
		},
		"goroutine": {
			"<nil>",
			"goproc:POISONED:0:the goproc engine is poisoned by an internal error: panic in DebugPanic's goroutine: provoked by DebugPanic",
		},
	} {
		command := exec.Command("/proc/self/exe")
		command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "GOPROC_TEST_PANIC="+where)
		var stderr strings.Builder
		command.Stderr = &stderr
		output, err := command.Output()
		require.NoError(t, err)
		assert.Equal(t, want, strings.Split(strings.TrimSpace(string(output)), "\n"))
		assert.Contains(t, stderr.String(), "panic.go", "the stack is printed")
	}
}
