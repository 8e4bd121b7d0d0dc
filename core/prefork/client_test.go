package prefork

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/goproc/goproc/core/process"
	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

// fixture is a client with its table; both are closed with the test.
type fixture struct {
	*Client
	t     *testing.T
	table *process.Table
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	return setUpFor(t, process.Forkserver)
}

func setUpFor(t *testing.T, method process.Method) *fixture {
	t.Helper()
	table := process.NewTable()
	f := &fixture{Client: New(table, method), t: t, table: table}
	t.Cleanup(func() {
		require.NoError(t, f.Stop())
		require.NoError(t, table.Close())
		assert.Empty(t, sys.Open())
	})
	return f
}

// serverCommand is this test program as a fork server. The race detector would have it sleep for a second at its end.
func serverCommand(manners string) process.Command {
	return process.Command{
		Argv: []string{"/proc/self/exe", "serve", manners},
		Env:  append(os.Environ(), "GORACE=atexit_sleep_ms=0"),
	}
}

// ensure starts a server with these manners.
func (f *fixture) ensure(manners string) (pid int) {
	f.t.Helper()
	pid, err := f.Ensure(serverCommand(manners))
	require.NoError(f.t, err)
	return pid
}

// request asks for a process that runs the script.
func (f *fixture) request(script string) (ticket int, err error) {
	f.t.Helper()
	file, err := os.CreateTemp(f.t.TempDir(), "script")
	require.NoError(f.t, err)
	_, err = file.WriteString(script)
	require.NoError(f.t, err)
	defer func() { require.NoError(f.t, file.Close()) }()
	return f.Request([]int{int(file.Fd())})
}

// start asks for a process and waits for the reply.
func (f *fixture) start(script string) (id int) {
	f.t.Helper()
	ticket, err := f.request(script)
	require.NoError(f.t, err)
	id, err = f.Reply(ticket, patience)
	require.NoError(f.t, err)
	require.Positive(f.t, id)
	return id
}

// exitOf waits for the end of a process.
func (f *fixture) exitOf(id int) int {
	f.t.Helper()
	status := make(chan int, 1)
	require.NoError(f.t, f.table.OnExit(id, func(s int) { status <- s }))
	select {
	case s := <-status:
		return s
	case <-time.After(patience):
		require.Fail(f.t, "the process does not end")
		return 0
	}
}

// gone waits until no server runs.
func (f *fixture) gone() {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return f.current() == nil }, patience, time.Millisecond)
}

func TestWithoutServer(t *testing.T) {
	f := setUp(t)
	require.NoError(t, f.Stop())
	assert.Zero(t, f.Pid())
	require.ErrorIs(t, f.Ping(time.Second), ErrGone)
	_, err := f.Request(nil)
	require.ErrorIs(t, err, ErrGone)
	_, err = f.Reply(1, 0)
	require.ErrorIs(t, err, process.ErrInvalid)
	_, err = f.Ensure(process.Command{Argv: []string{"/nowhere"}})
	require.ErrorIs(t, err, unix.ENOENT)
	assert.Zero(t, f.Pid())
}

func TestServerIsStartedOnceAndStops(t *testing.T) {
	f := setUp(t)
	pid := f.ensure("")
	assert.Equal(t, pid, f.ensure(""))
	assert.Equal(t, pid, f.Pid())
	require.NoError(t, f.Ping(patience))
	require.NoError(t, f.Stop())
	assert.Zero(t, f.Pid())
	require.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH, "stopped and reaped")
	require.ErrorIs(t, f.Ping(time.Second), ErrGone)
	assert.NotEqual(t, pid, f.ensure(""))
	assert.Zero(t, f.table.Started(process.Spawn), "the server is none of the program's processes")
	assert.Zero(t, f.table.Running())
}

func TestProcesses(t *testing.T) {
	f := setUp(t)
	f.ensure("")
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": -9} {
		assert.Equal(t, want, f.exitOf(f.start(script)), script)
	}
	id := f.start("exec sleep 1000")
	assert.Equal(t, 1, f.table.Running())
	code, err := f.table.ExitCode(id)
	require.NoError(t, err)
	assert.Equal(t, process.Running, code)
	sentinel, err := f.table.Sentinel(id)
	require.NoError(t, err)
	assert.Positive(t, sentinel)
	require.NoError(t, f.table.Signal(id, int(unix.SIGTERM)))
	assert.Equal(t, -15, f.exitOf(id))
	assert.EqualValues(t, 4, f.table.Started(process.Forkserver))
}

func TestManyAtOnce(t *testing.T) {
	f := setUp(t)
	f.ensure("")
	var asking sync.WaitGroup
	for worker := range 4 {
		asking.Go(func() {
			for i := range 20 {
				want := worker*20 + i
				id := f.start(fmt.Sprintf("exit %d", want))
				assert.Equal(t, want, f.exitOf(id))
				f.table.Forget(id)
			}
		})
	}
	asking.Wait()
}

// standsBy waits until that many stand by, and returns their numbers.
func (f *fixture) standsBy(count int) (pids []int) {
	f.t.Helper()
	require.Eventually(f.t, func() bool {
		s := f.current()
		s.mu.Lock()
		defer s.mu.Unlock()
		pids = nil
		for _, b := range s.standbys {
			if pid, err := f.table.Pid(b.id); err == nil {
				pids = append(pids, pid)
			}
		}
		return len(pids) == count
	}, patience, time.Millisecond)
	return pids
}

func TestProcessesThatStoodBy(t *testing.T) {
	f := setUp(t)
	f.ensure("standbys")
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": -9} {
		next := f.standsBy(2)[0]
		id := f.start(script)
		pid, err := f.table.Pid(id)
		require.NoError(t, err)
		assert.Equal(t, next, pid)
		assert.Equal(t, want, f.exitOf(id), script)
	}
	assert.EqualValues(t, 3, f.table.Started(process.Forkserver))
}

func TestMoreAtOnceThanStandBy(t *testing.T) {
	f := setUp(t)
	f.ensure("standbys")
	var ids []int
	for i := range 20 {
		ids = append(ids, f.start(fmt.Sprintf("exit %d", i)))
	}
	for i, id := range ids {
		assert.Equal(t, i, f.exitOf(id))
	}
}

func TestStandbyThatHasBeenKilled(t *testing.T) {
	f := setUp(t)
	f.ensure("standbys")
	for _, pid := range f.standsBy(2) {
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		require.Eventually(t, func() bool { return unix.Kill(pid, 0) == unix.ESRCH }, patience, time.Microsecond)
	}
	assert.Equal(t, 7, f.exitOf(f.start("exit 7")), "whether or not we know of it by now")
	f.standsBy(2) // the server has been told
	assert.Equal(t, 8, f.exitOf(f.start("exit 8")))
}

func TestStandbysEndWithTheirServer(t *testing.T) {
	f := setUp(t)
	server := f.ensure("standbys")
	pids := f.standsBy(2)
	running := f.start("exec sleep 1000")
	require.NoError(t, unix.Kill(server, unix.SIGKILL))
	f.gone()
	require.Eventually(t, func() bool { return unix.Kill(pids[1], 0) == unix.ESRCH }, patience, time.Millisecond)
	require.NoError(t, f.table.Signal(running, int(unix.SIGKILL)))
	assert.Equal(t, process.Unknown, f.exitOf(running))
}

func TestStandbyStaysWhenItCannotBeSentAnything(t *testing.T) {
	f := setUp(t)
	f.ensure("standbys")
	f.standsBy(2)
	_, err := f.Request([]int{19999})
	require.ErrorIs(t, err, unix.EBADF)
	f.standsBy(2)
	assert.Equal(t, 7, f.exitOf(f.start("exit 7")))
}

func TestReplyLosesPatience(t *testing.T) {
	f := setUp(t)
	f.ensure("mute")
	id, err := f.request("exit 0")
	require.NoError(t, err)
	for range 3 {
		sentinel, err := f.Reply(id, time.Millisecond)
		require.NoError(t, err)
		assert.Zero(t, sentinel)
	}
	require.ErrorIs(t, f.Ping(time.Millisecond), unix.ETIMEDOUT)

	require.NoError(t, f.Stop())
	_, err = f.Reply(id, patience)
	require.ErrorIs(t, err, ErrGone)
	_, err = f.Reply(id, patience)
	require.ErrorIs(t, err, process.ErrInvalid, "said once")
}

func TestPingEndsWithTheServer(t *testing.T) {
	f := setUp(t)
	pid := f.ensure("mute")
	pinging := make(chan error)
	go func() { pinging <- f.Ping(patience) }()
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	require.ErrorIs(t, <-pinging, ErrGone)
}

func TestRefusal(t *testing.T) {
	f := setUp(t)
	f.ensure("refuse")
	id, err := f.request("exit 0")
	require.NoError(t, err)
	_, err = f.Reply(id, patience)
	require.ErrorIs(t, err, unix.EAGAIN)
	require.NoError(t, f.Ping(patience), "the server is as good as before")
}

func TestServerThatDies(t *testing.T) {
	f := setUp(t)
	dead := f.ensure("die")
	id, err := f.request("exit 0")
	require.NoError(t, err)
	_, err = f.Reply(id, patience)
	require.ErrorIs(t, err, ErrGone)
	assert.ErrorContains(t, err, fmt.Sprint(dead))

	assert.NotEqual(t, dead, f.ensure(""))
	assert.Equal(t, 7, f.exitOf(f.start("exit 7")))
}

func TestProcessesOfAServerThatDied(t *testing.T) {
	f := setUp(t)
	pid := f.ensure("")
	ended := f.start("exit 7")
	assert.Equal(t, 7, f.exitOf(ended))
	running := f.start("exec sleep 1000")
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	f.gone()
	code, err := f.table.ExitCode(ended)
	require.NoError(t, err)
	assert.Equal(t, 7, code)
	code, err = f.table.ExitCode(running)
	require.NoError(t, err)
	assert.Equal(t, process.Running, code)
	require.NoError(t, f.table.Signal(running, int(unix.SIGKILL)))
	assert.Equal(t, process.Unknown, f.exitOf(running))
}

func TestEnsureSeesADeadServerAtOnce(t *testing.T) {
	f := setUp(t)
	for range 10 {
		pid := f.ensure("")
		sentinel, err := f.table.Sentinel(f.current().id)
		require.NoError(t, err)
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(sentinel), Events: unix.POLLIN}}, 20_000)
		if err != unix.EINTR {
			require.NoError(t, err)
		}
		assert.NotEqual(t, pid, f.ensure(""))
	}
}

func TestProtocolErrorsLoseTheServer(t *testing.T) {
	for _, manners := range []string{"garbage", "without-pidfd", "unasked", "twice", "standbys,repeated"} {
		t.Run(manners, func(t *testing.T) {
			f := setUp(t)
			pid := f.ensure(manners)
			id, err := f.request("exit 0")
			if err == nil {
				_, err = f.Reply(id, patience)
			}
			if manners != "twice" && manners != "standbys,repeated" {
				require.ErrorIs(t, err, ErrGone)
				assert.ErrorContains(t, err, errProtocol.Error())
			}
			f.gone()
			require.Eventually(t, func() bool { return unix.Kill(pid, 0) == unix.ESRCH }, patience, time.Millisecond)
		})
	}
}

func TestStubbornServerIsKilled(t *testing.T) {
	f := setUp(t)
	pid := f.ensure("immortal")
	require.NoError(t, f.Ping(patience))
	begin := time.Now()
	require.NoError(t, f.Stop())
	assert.GreaterOrEqual(t, time.Since(begin), stopPatience)
	require.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH)
}

func TestProcessNobodyWaitsForIsEnded(t *testing.T) {
	f := setUp(t)
	pid := f.ensure("")
	for _, early := range []bool{true, false} {
		require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
		ticket, err := f.request("exec sleep 1000")
		require.NoError(t, err)
		if early {
			f.Abandon(ticket)
		}
		require.NoError(t, unix.Kill(pid, unix.SIGCONT))
		if early {
			f.standsBy(1) // it has been forked, and is there for the next one
			continue
		}
		f.mu.Lock()
		answered := f.requests[ticket].answered
		f.mu.Unlock()
		<-answered
		f.Abandon(ticket)
		require.Eventually(t, func() bool { return f.table.Running() == 0 }, patience, time.Millisecond)
	}
	f.Abandon(12345)
}

func TestRequestsThatWaitAreAnsweredInTurn(t *testing.T) {
	f := setUp(t)
	pid := f.ensure("")
	require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
	var tickets []int
	for i := range 5 {
		ticket, err := f.request(fmt.Sprintf("exit %d", i))
		require.NoError(t, err)
		id, err := f.Reply(ticket, 0)
		require.NoError(t, err)
		assert.Zero(t, id)
		tickets = append(tickets, ticket)
	}
	require.NoError(t, unix.Kill(pid, unix.SIGCONT))
	for i, ticket := range tickets {
		id, err := f.Reply(ticket, patience)
		require.NoError(t, err)
		assert.Equal(t, i, f.exitOf(id))
	}
}

// If a server is killed after it has forked, and before it has said so, no process runs what was asked for.
func TestServerThatDiesBetweenForkAndReply(t *testing.T) {
	f := setUp(t)
	witness := t.TempDir() + "/ran"
	for range 20 {
		pid := f.ensure("")
		ticket, err := f.request("echo >> " + witness)
		require.NoError(t, err)
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		id, err := f.Reply(ticket, patience)
		if err == nil {
			f.exitOf(id)
			require.NoError(t, os.Remove(witness))
		} else {
			require.ErrorIs(t, err, ErrGone)
		}
		f.gone()
	}
	assert.NoFileExists(t, witness)
}

func TestRequestAlike(t *testing.T) {
	f := setUpFor(t, process.Spawn)
	c, table := f.Client, f.table
	start := func(variable string) (server int) {
		script, err := os.Create(t.TempDir() + "/script")
		require.NoError(t, err)
		_, err = script.WriteString("exec sleep 1000")
		require.NoError(t, err)
		command := serverCommand("spawner")
		command.Env = append(command.Env, variable)
		ticket, err := c.RequestAlike(command, []int{int(script.Fd())})
		require.NoError(t, err)
		require.NoError(t, script.Close(), "the request has its own")
		server = c.current().pid
		id, err := c.Reply(ticket, patience)
		require.NoError(t, err)
		require.NoError(t, table.Signal(id, 9))
		f.exitOf(id)
		return server
	}
	first := start("A=1")
	assert.Equal(t, first, start("A=1"))
	second := start("A=2")
	assert.NotEqual(t, first, second, "another environment")
	require.Eventually(t, func() bool { return unix.Kill(first, 0) == unix.ESRCH }, patience, time.Millisecond)
	umask := unix.Umask(0o77)
	third := start("A=2")
	unix.Umask(umask)
	assert.NotEqual(t, second, third, "another mask of file modes")
	assert.EqualValues(t, 4, table.Started(process.Spawn))
}

func TestProcessThatIsKilledBeforeItStandsBy(t *testing.T) {
	f := setUpFor(t, process.Spawn)
	f.ensure("spawner,killed")
	id := f.start("exec sleep 1000") // gets another process
	require.NoError(t, f.table.Signal(id, 9))
	f.exitOf(id)
	require.Eventually(t, func() bool {
		s := f.current()
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.expected) == 0 && len(s.early) == 0
	}, patience, time.Millisecond)
}

func TestProcessThatComesAfterItsServerWasGivenUp(t *testing.T) {
	f := setUpFor(t, process.Spawn)
	pid, err := sys.Execute("/bin/sleep", []string{"sleep", "1000"}, os.Environ(), nil)
	require.NoError(t, err)
	t.Setenv(lateVariable, strconv.Itoa(pid))
	f.ensure("spawner")
	server := f.current()
	server.retire() // Stop kills a server that takes long
	<-server.done
	<-server.read
	_, err = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	require.ErrorIs(t, err, unix.ECHILD, "it has been reaped")
}

func TestNoRoomForThePidfd(t *testing.T) {
	f := setUp(t)
	pid := f.ensure("")
	require.NoError(t, f.Ping(patience))
	require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
	ticket, err := f.request("exec sleep 1000")
	require.NoError(t, err)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}))
	require.NoError(t, unix.Kill(pid, unix.SIGCONT))
	_, err = f.Reply(ticket, patience)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	require.ErrorIs(t, err, unix.EMFILE)
	assert.Equal(t, 7, f.exitOf(f.start("exit 7")), "the server is as good as before")
}

func TestTooManyDescriptors(t *testing.T) {
	f := setUp(t)
	f.ensure("")
	_, err := f.Request(make([]int, sys.MaxPassed+1))
	require.ErrorIs(t, err, process.ErrInvalid)
	assert.ErrorContains(t, err, "too many fds")
	_, err = f.Request([]int{19999})
	require.ErrorIs(t, err, unix.EBADF)
	require.NoError(t, f.Ping(patience))
}

func TestStopAfterTheTableIsClosed(t *testing.T) {
	table := process.NewTable()
	c := New(table, process.Forkserver)
	pid, err := c.Ensure(serverCommand(""))
	require.NoError(t, err)
	server := c.current()
	require.NoError(t, table.Close())
	server.lose(unix.EPIPE)
	<-server.done
	_, err = unix.Wait4(pid, nil, 0, nil)
	require.NoError(t, err)
}
