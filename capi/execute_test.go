package capi

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// bothWays runs a test with C and without.
func bothWays(t *testing.T, test func(t *testing.T)) {
	require.NotNil(t, sys.Executor)
	t.Run("by C", test)
	t.Run("by Go", func(t *testing.T) {
		byC := sys.Executor
		sys.Executor = nil
		defer func() { sys.Executor = byC }()
		test(t)
	})
}

// shell runs a shell script in a child that Execute starts, with the write end of a pipe as descriptor keep[0], and
// returns what it wrote there, and its wait status.
func shell(t *testing.T, script string, number int, keep ...int) (string, unix.WaitStatus) {
	t.Helper()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _ = read.Close() }()
	require.NoError(t, unix.Dup3(int(write.Fd()), number, unix.O_CLOEXEC))
	require.NoError(t, write.Close())
	pid, err := sys.Execute("/bin/bash", []string{"bash", "-c", script}, []string{"A=b"}, append(keep, number))
	require.NoError(t, unix.Close(number))
	require.NoError(t, err)
	output, err := io.ReadAll(read)
	require.NoError(t, err)
	var status unix.WaitStatus
	_, err = unix.Wait4(pid, &status, 0, nil)
	require.NoError(t, err)
	return string(output), status
}

func TestExecuteKeepsNumbersAndNothingElse(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		for _, number := range []int{64, 12345} {
			kept, err := os.Open("/dev/null")
			require.NoError(t, err)
			inheritable, err := unix.Dup(int(kept.Fd())) // not close-on-exec
			require.NoError(t, err)
			high, err := unix.FcntlInt(kept.Fd(), unix.F_DUPFD, 17000)
			require.NoError(t, err)

			// The script does not list the folder: the folder would be open, and list itself.
			script := fmt.Sprintf("for i in {0..64} 12345 17000; do test -e /proc/$$/fd/$i && echo $i >&%d; done; exit 0", number)
			output, status := shell(t, script, number, int(kept.Fd()))
			assert.Zero(t, status.ExitStatus())
			assert.ElementsMatch(t, []string{"0", "1", "2", fmt.Sprint(kept.Fd()), fmt.Sprint(number)}, strings.Fields(output))

			flags, err := unix.FcntlInt(kept.Fd(), unix.F_GETFD, 0)
			require.NoError(t, err)
			assert.Equal(t, unix.FD_CLOEXEC, flags, "here the kept descriptor is as it was")
			flags, err = unix.FcntlInt(uintptr(inheritable), unix.F_GETFD, 0)
			require.NoError(t, err)
			assert.Zero(t, flags, "and the inheritable one too")
			require.NoError(t, unix.Close(inheritable))
			require.NoError(t, unix.Close(high))
			require.NoError(t, kept.Close())
		}
	})
}

func TestExecuteWithStandardStreamsMissing(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		// A child of this test closes 0 and 1, so that what Execute opens gets these numbers. The child starts another
		// process, in which the kept descriptors 3, 4 and 5 must be what they were.
		command := exec.Command("/proc/self/exe", "-test.run=TestExecuteInClosedHouse")
		command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "GOPROC_TEST_CLOSED_HOUSE="+fmt.Sprint(sys.Executor != nil))
		output, err := command.CombinedOutput()
		require.NoError(t, err, "%s", output)
	})
}

// TestExecuteInClosedHouse is the child of TestExecuteWithStandardStreamsMissing.
func TestExecuteInClosedHouse(t *testing.T) {
	byC := os.Getenv("GOPROC_TEST_CLOSED_HOUSE")
	if byC == "" {
		t.Skip("runs as a child")
	}
	if byC == "false" {
		sys.Executor = nil
	}
	saved := map[int]int{}
	for _, fd := range []int{0, 1, 3, 4, 5} { // the runtime may have its poller at 3, 4 and 5
		if high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 100); err == nil {
			saved[fd] = high
		}
	}
	file, err := os.Open("/dev/null")
	require.NoError(t, err)
	low := int(file.Fd())
	require.NoError(t, unix.Close(0))
	require.NoError(t, unix.Close(1))
	script := fmt.Sprintf("test ! -e /proc/$$/fd/0 && test ! -e /proc/$$/fd/1 && test /proc/$$/fd/%d -ef /dev/null", low)
	pid, execErr := sys.Execute("/bin/bash", []string{"bash", "-c", script}, nil, []int{low})
	require.NoError(t, unix.Dup3(saved[0], 0, 0))
	require.NoError(t, unix.Dup3(saved[1], 1, 0))
	for _, high := range saved {
		_ = unix.Close(high)
	}
	require.NoError(t, execErr)
	var status unix.WaitStatus
	_, err = unix.Wait4(pid, &status, 0, nil)
	require.NoError(t, err)
	assert.Zero(t, status.ExitStatus())
	require.NoError(t, file.Close())
}

func TestExecuteOnTheCallingThread(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and it ends with this goroutine
			if !assert.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
				return
			}
			output, _ := shell(t, `exec grep NoNewPrivs /proc/self/status >&40`, 40)
			assert.Equal(t, "NoNewPrivs:\t1\n", output)
		}()
		<-done
		output, _ := shell(t, `exec grep NoNewPrivs /proc/self/status >&40`, 40)
		assert.Equal(t, "NoNewPrivs:\t0\n", output)
	})
}

func TestExecuteLeavesIgnoredSignals(t *testing.T) {
	signal.Ignore(unix.SIGUSR2)
	defer signal.Reset(unix.SIGUSR2)
	output, _ := shell(t, `exec grep SigIgn /proc/self/status >&40`, 40)
	var ignored uint64
	_, err := fmt.Sscanf(output, "SigIgn:\t%x", &ignored)
	require.NoError(t, err)
	assert.NotZero(t, ignored&(1<<(unix.SIGUSR2-1)))
}

func TestExecuteEnvironmentAndArguments(t *testing.T) {
	output, status := shell(t, `echo $0 $A >&40; exit 7`, 40)
	assert.Equal(t, "bash b\n", output)
	assert.Equal(t, 7, status.ExitStatus())
}

func TestExecuteReportsErrors(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		_, err := sys.Execute("/nowhere", []string{"x"}, nil, nil)
		require.ErrorIs(t, err, unix.ENOENT)
		assert.ErrorContains(t, err, "/nowhere")
		_, err = sys.Execute("/etc/passwd", []string{"x"}, nil, nil)
		require.ErrorIs(t, err, unix.EACCES)
		_, err = sys.Execute("/bin/true", []string{"x"}, nil, []int{15000})
		require.ErrorIs(t, err, unix.EBADF)
	})
}

func TestExecuteGivesTheCallersSignalMask(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var set, old unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGUSR1 - 1)
	require.NoError(t, unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old))
	output, _ := shell(t, `exec grep SigBlk /proc/self/status >&40`, 40)
	require.NoError(t, unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil))
	var mask uint64
	_, err := fmt.Sscanf(output, "SigBlk: %x", &mask)
	require.NoError(t, err)
	assert.Equal(t, uint64(set.Val[0]), mask)
}

func TestExecuteLeavesNoCopyOpen(t *testing.T) {
	// The child keeps no copy of the write end: when this test closes it, the read end is at end of file at once.
	for range 20 {
		read, write, err := sys.Pipe("test")
		require.NoError(t, err)
		pid, err := sys.Execute("/bin/true", []string{"true"}, nil, nil)
		require.NoError(t, err)
		require.NoError(t, write.Close())
		ended, err := sys.Readable(read)
		require.NoError(t, err)
		assert.True(t, ended)
		require.NoError(t, read.Close())
		_, err = unix.Wait4(pid, nil, 0, nil)
		require.NoError(t, err)
	}
}

func TestExecuteFromManyGoroutinesWithTheCollectorBusy(t *testing.T) {
	stop := make(chan struct{})
	var collecting sync.WaitGroup
	collecting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			for range 25 {
				pid, err := sys.Execute("/bin/true", []string{"true"}, nil, nil)
				if assert.NoError(t, err) {
					_, err = unix.Wait4(pid, nil, 0, nil)
					assert.NoError(t, err)
				}
			}
		})
	}
	starting.Wait()
	close(stop)
	collecting.Wait()
}

func BenchmarkExecute(b *testing.B) {
	for b.Loop() {
		pid, err := sys.Execute("/bin/true", []string{"true"}, nil, nil)
		require.NoError(b, err)
		_, err = unix.Wait4(pid, nil, 0, nil)
		require.NoError(b, err)
	}
}
