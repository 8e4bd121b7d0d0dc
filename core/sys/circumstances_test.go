package sys

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// onThread calls f on a thread of its own, which ends then.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// asAlone makes this package believe that the process had a single thread when the engine was loaded.
func asAlone(t *testing.T) {
	content, err := os.ReadFile("/proc/thread-self/status")
	require.NoError(t, err)
	NoteOrigin(string(content))
	origin.Load().alone = true
	t.Cleanup(func() { origin.Store(nil) })
}

func TestCircumstancesAreTheThreads(t *testing.T) {
	asAlone(t)
	read := func() Circumstances {
		c, err := ReadCircumstances()
		require.NoError(t, err)
		return c
	}
	onThread(func() {
		before := read()
		assert.Equal(t, before, read())
		for what, change := range map[string]func() error{
			"timer slack":        func() error { return unix.Prctl(unix.PR_SET_TIMERSLACK, 77_000, 0, 0, 0) },
			"memory policy":      func() error { return setMemoryPolicy(1) },
			"no new privileges":  func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) },
			"personality":        func() error { return call(unix.SYS_PERSONALITY, 0x0040000, 0, 0) },
			"I/O priority":       func() error { return call(unix.SYS_IOPRIO_SET, 1, 0, 2<<13|6) },
			"scheduling policy":  func() error { return unix.SchedSetAttr(0, &unix.SchedAttr{Size: 48, Policy: unix.SCHED_BATCH}, 0) },
			"what sched_* reset": func() error { return unix.SchedSetAttr(0, &unix.SchedAttr{Size: 48, Flags: 1}, 0) },
		} {
			if err := change(); err != nil {
				t.Logf("%s: %v", what, err) // not allowed here
				continue
			}
			after := read()
			assert.NotEqual(t, before.Rest, after.Rest, what)
			before = after
		}
	})
}

func TestCircumstancesOfTheWholeProcess(t *testing.T) {
	asAlone(t)
	read := func() string {
		c, err := ReadCircumstances()
		require.NoError(t, err)
		return c.Rest
	}
	for name, value := range map[string]string{"coredump_filter": "0x1", "oom_score_adj": "600"} {
		path := "/proc/self/" + name
		was, err := os.ReadFile(path)
		require.NoError(t, err)
		if name == "coredump_filter" {
			was = append([]byte("0x"), was...)
		}
		before := read()
		require.NoError(t, os.WriteFile(path, []byte(value), 0))
		after := read()
		require.NoError(t, os.WriteFile(path, was, 0))
		assert.NotEqual(t, before, after, name)
	}
}

func call(number, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func setMemoryPolicy(mode uintptr) error {
	nodes := uint64(1)
	return call(unix.SYS_SET_MEMPOLICY, mode, uintptr(unsafe.Pointer(&nodes)), 64)
}

func TestFiltersOfTheThreadCannotBeCompared(t *testing.T) {
	asAlone(t)
	onThread(func() {
		allow := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
		program := unix.SockFprog{Len: 1, Filter: &allow[0]}
		require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		require.NoError(t, unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0))
		_, err := ReadCircumstances()
		require.ErrorIs(t, err, ErrIncomparable)
		require.ErrorIs(t, err, unix.ENOTSUP)
	})
}

// enterDomain makes the calling thread unable to make folders, or skips the test.
func enterDomain(t *testing.T) {
	handled := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_DIR)
	ruleset, _, errno := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), 8, 0)
	if errno != 0 {
		t.Skipf("no Landlock: %v", errno)
	}
	require.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	require.NoError(t, call(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0))
	require.NoError(t, unix.Close(int(ruleset)))
}

func TestLandlockDomains(t *testing.T) {
	asAlone(t)
	if !mayLookInto(os.Getppid()) {
		t.Skip("the parent is another user's")
	}
	sleep := func() int {
		command := exec.Command("sleep", "1000")
		require.NoError(t, command.Start())
		t.Cleanup(func() {
			_ = command.Process.Kill()
			_ = command.Wait()
		})
		return command.Process.Pid
	}
	c, err := ReadCircumstances()
	require.NoError(t, err)
	assert.False(t, c.Proof)
	outside := sleep()
	assert.True(t, SharesDomain(outside))
	var first, second Circumstances
	onThread(func() {
		enterDomain(t)
		assert.False(t, SharesDomain(outside))
		first, err = ReadCircumstances()
		require.NoError(t, err)
		assert.True(t, first.Proof)
		inside := sleep()
		assert.True(t, SharesDomain(inside))
		enterDomain(t)
		assert.False(t, SharesDomain(inside))
		again, err := ReadCircumstances()
		require.NoError(t, err)
		assert.Equal(t, first.Rest, again.Rest, "only SharesDomain can tell")
	})
	onThread(func() {
		enterDomain(t)
		second, err = ReadCircumstances()
		require.NoError(t, err)
	})
	assert.NotEqual(t, first.Rest, second.Rest, "another thread's domain is another one")
}

func TestWithoutPowersNoDomainCanBeEntered(t *testing.T) {
	asAlone(t)
	user, err := os.Readlink("/proc/self/ns/user")
	require.NoError(t, err)
	powerless := map[string]string{"Threads": "1", "NoNewPrivs": "0", "Seccomp": "0"}
	o := *origin.Load()
	defer origin.Store(nil)
	for _, c := range []struct {
		powerless, alone, landlock bool
		newPrivileges              string
		userSpace                  string
		sure                       bool
	}{
		{true, true, true, "0", user, true},
		{false, true, true, "0", user, false},
		{true, false, true, "0", user, false},
		{true, true, true, "1", user, false},
		{true, true, true, "0", "user:[1]", false},
		{false, true, false, "1", user, true},
	} {
		changed := o
		changed.powerless, changed.alone, changed.landlock = c.powerless, c.alone, c.landlock
		origin.Store(&changed)
		powerless["NoNewPrivs"] = c.newPrivileges
		onThread(func() {
			enterDomain(t) // so that the parent cannot be looked into, as if it were another user's
			thread, err := openThread()
			require.NoError(t, err)
			defer thread.close()
			_, proof, err := readConfinement(thread, powerless, c.userSpace)
			require.NoError(t, err)
			assert.Equal(t, c.sure, !proof, "%+v", c)
		})
	}
}
