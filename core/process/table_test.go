package process

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// newTable makes a table that is closed with the test.
func newTable(t *testing.T) *Table {
	t.Helper()
	table := NewTable()
	t.Cleanup(func() { require.NoError(t, table.Close()) })
	return table
}

// shell is a command that runs a script.
func shell(script string) Command {
	return Command{Argv: []string{"/bin/sh", "-c", script}, Env: os.Environ()}
}

// forked starts a process of which no table knows, as C's fork would.
func forked(t *testing.T, script string) (pid int) {
	t.Helper()
	c := shell(script)
	pid, err := sys.Execute(c.Argv[0], c.Argv, c.Env, nil)
	require.NoError(t, err)
	return pid
}

// exitOf waits for the end of the process by subscribing to it.
func exitOf(t *testing.T, table *Table, id int) int {
	t.Helper()
	status := make(chan int, 1)
	require.NoError(t, table.OnExit(id, func(s int) { status <- s }))
	return receive(t, status)
}

// receive gives up after a while, so that a test fails instead of hanging.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(20 * time.Second):
		require.Fail(t, "nothing came")
		panic("unreachable")
	}
}

// poll waits until the descriptor is readable.
func poll(t *testing.T, fd int) {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
		if err == unix.EINTR {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, 1, n)
		return
	}
}

// dropped waits until the table has no entries.
func dropped(t *testing.T, table *Table) {
	t.Helper()
	require.Eventually(t, func() bool {
		table.mu.Lock()
		defer table.mu.Unlock()
		return len(table.entries) == 0
	}, 20*time.Second, time.Millisecond)
}

func TestUnusedTableHasNothing(t *testing.T) {
	table := NewTable()
	assert.Empty(t, sys.Open())
	require.NoError(t, table.Close())
	require.NoError(t, table.Close())
}

func TestExitCodes(t *testing.T) {
	table := newTable(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 255": 255, "kill -9 $$": -9, "kill -11 $$": -11} {
		id, err := table.Spawn(Spawn, shell(script))
		require.NoError(t, err)
		assert.Equal(t, want, exitOf(t, table, id), script)
		for range 3 {
			status, err := table.ExitCode(id)
			require.NoError(t, err)
			assert.Equal(t, want, status, "however often one asks")
		}
	}
	assert.EqualValues(t, 4, table.Started(Spawn))
}

func TestEverybodyIsToldTheSameStatus(t *testing.T) {
	table := newTable(t)
	for range 20 {
		id, err := table.Spawn(Spawn, shell("exit 42"))
		require.NoError(t, err)
		sentinel, err := table.Sentinel(id)
		require.NoError(t, err)
		var asking sync.WaitGroup
		for range 4 {
			asking.Go(func() {
				poll(t, sentinel)
				status, err := table.ExitCode(id)
				assert.NoError(t, err)
				assert.Equal(t, 42, status)
			})
		}
		assert.Equal(t, 42, exitOf(t, table, id))
		asking.Wait()
		assert.Equal(t, 42, exitOf(t, table, id), "a late subscriber too")
	}
}

func TestSignal(t *testing.T) {
	table := newTable(t)
	id, err := table.Spawn(Spawn, shell("exec sleep 1000"))
	require.NoError(t, err)
	status, err := table.ExitCode(id)
	require.NoError(t, err)
	assert.Equal(t, Running, status)
	assert.Equal(t, 1, table.Running())
	require.ErrorIs(t, table.Signal(id, 1000), unix.EINVAL)
	require.NoError(t, table.Signal(id, int(unix.SIGTERM)))
	assert.Equal(t, -15, exitOf(t, table, id))
	require.NoError(t, table.Signal(id, int(unix.SIGTERM)), "to one that has ended")
}

func TestStatusReapedBySomebodyElseIsUnknown(t *testing.T) {
	table := newTable(t)

	// The child is reaped before its pidfd is opened: the sentinel is readable all the same.
	id, err := table.Prepare()
	require.NoError(t, err)
	pid := forked(t, "exit 3")
	_, err = unix.Wait4(pid, nil, 0, nil)
	require.NoError(t, err)
	sentinel, err := table.Commit(id, pid)
	require.NoError(t, err)
	poll(t, sentinel)
	assert.Equal(t, Unknown, exitOf(t, table, id))
	require.NoError(t, table.Signal(id, 9))
	table.Forget(id)

	// The child is reaped afterwards.
	for range 20 {
		id, err := table.Spawn(Spawn, shell("exit 3"))
		require.NoError(t, err)
		pid, err := table.Pid(id)
		require.NoError(t, err)
		_, err = unix.Wait4(pid, nil, 0, nil)
		require.NoError(t, err, "the reaper has left the status")
		assert.Equal(t, Unknown, exitOf(t, table, id))
		table.Forget(id)
	}
	dropped(t, table)
}

func TestForgottenEntriesAreDropped(t *testing.T) {
	table := newTable(t)
	before := len(sys.Open())
	early, err := table.Spawn(Spawn, shell("exec sleep 1000"))
	require.NoError(t, err)
	late, err := table.Spawn(Spawn, shell("exit 0"))
	require.NoError(t, err)
	assert.Zero(t, exitOf(t, table, late))
	table.Forget(late) // it has ended already
	table.Forget(early)
	table.Forget(early)
	pid, err := table.Pid(early)
	require.NoError(t, err, "a forgotten process that runs is still there")
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	dropped(t, table)
	require.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH, "and is still reaped")
	assert.Len(t, sys.Open(), before+3, "what is left is the reaper's")
	table.Forget(early)
	_, err = table.ExitCode(early)
	require.ErrorIs(t, err, ErrInvalid)
}

// The reaper may not have seen the end of the process yet, and nobody has to wait for the reaper.
func TestDescriptorOfAnEndedProcessIsClosedAtOnce(t *testing.T) {
	table := newTable(t)
	first, err := table.Prepare() // starts the reaper
	require.NoError(t, err)
	require.NoError(t, table.Abort(first))
	before := len(sys.Open())
	for range 50 {
		id, err := table.Spawn(Spawn, shell("exit 0"))
		require.NoError(t, err)
		assert.Zero(t, exitOf(t, table, id))
		table.Forget(id)
		require.Len(t, sys.Open(), before)
		_, err = table.Pid(id)
		require.ErrorIs(t, err, ErrInvalid)

		id, err = table.Spawn(Spawn, shell("exit 7"))
		require.NoError(t, err)
		told := make(chan int, 1)
		require.NoError(t, table.OnExit(id, func(status int) { told <- status }))
		assert.Equal(t, 7, exitOf(t, table, id))
		table.Settle(id)
		table.Forget(id)
		assert.Equal(t, 7, receive(t, told))
	}
	table.Settle(1 << 20)
	dropped(t, table)
}

// The subscribers have been told already, so a new one must not be kept waiting.
func TestSubscribingToWhatIsBeingDropped(t *testing.T) {
	table := newTable(t)
	id, err := table.Spawn(Spawn, shell("exec sleep 60"))
	require.NoError(t, err)
	pid, err := table.Pid(id)
	require.NoError(t, err)
	telling, goOn := make(chan int, 1), make(chan struct{})
	require.NoError(t, table.OnExit(id, func(status int) { telling <- status; <-goOn }))
	table.Forget(id)
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	assert.Equal(t, -9, receive(t, telling))

	told := make(chan int, 1)
	err = table.OnExit(id, func(status int) { told <- status })
	close(goOn)
	if err == nil {
		assert.Equal(t, -9, receive(t, told))
	} else {
		assert.ErrorIs(t, err, ErrInvalid)
	}
}

func TestSubscribersMayAskTheTable(t *testing.T) {
	table := newTable(t)
	id, err := table.Spawn(Spawn, shell("exit 5"))
	require.NoError(t, err)
	done := make(chan string, 1)
	require.NoError(t, table.OnExit(id, func(status int) {
		again, err := table.ExitCode(id)
		table.Forget(id)
		_, spawnErr := table.Spawn(Spawn, shell("exit 0"))
		done <- fmt.Sprint(status, again, err, spawnErr, table.Running() >= 0)
	}))
	assert.Equal(t, "5 5 <nil> <nil> true", receive(t, done))
}

func TestClosedTableRefuses(t *testing.T) {
	table := NewTable()
	id, err := table.Spawn(Spawn, shell("exec sleep 1000"))
	require.NoError(t, err)
	pid, err := table.Pid(id)
	require.NoError(t, err)
	prepared, err := table.Prepare()
	require.NoError(t, err)
	late := forked(t, "exec sleep 1000")
	require.NoError(t, table.Close())
	assert.Empty(t, sys.Open())

	_, err = table.Commit(prepared, late)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, unix.Kill(late, 0), unix.ESRCH)
	_, err = table.Prepare()
	require.ErrorIs(t, err, ErrClosed)
	_, err = table.Spawn(Spawn, shell("exit 0"))
	require.ErrorIs(t, err, ErrClosed)
	_, err = table.ExitCode(id)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, table.OnExit(id, func(int) {}), ErrClosed)
	table.Forget(id)
	assert.Zero(t, table.Running())

	require.NoError(t, unix.Kill(pid, 0), "a process that runs goes on")
	sys.KillAndReap(pid)
}

func TestCloseWhileOthersAreBusy(t *testing.T) {
	for range 10 {
		table := NewTable()
		var busy sync.WaitGroup
		for range 3 {
			busy.Go(func() {
				for {
					id, err := table.Spawn(Spawn, shell("exit 0"))
					if err != nil {
						assert.True(t, strings.Contains(err.Error(), ErrClosed.Error()) || strings.Contains(err.Error(), "bad file"), err)
						return
					}
					_ = table.OnExit(id, func(int) { table.Forget(id) })
				}
			})
		}
		time.Sleep(3 * time.Millisecond)
		require.NoError(t, table.Close())
		busy.Wait()
		for { // reap the children that the table no longer reaps
			if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
				break
			}
		}
		assert.Empty(t, sys.Open())
	}
}
