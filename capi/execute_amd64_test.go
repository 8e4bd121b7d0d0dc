package capi

import (
	"runtime"
	"testing"
	"unsafe"

	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The C library calls vfork(2) on this architecture; on others it calls clone(2).

func TestExecuteWhereCallsAreRefused(t *testing.T) {
	for name, numbers := range map[string][]uint32{
		"close_range": {unix.SYS_CLOSE_RANGE},
		"vfork":       {unix.SYS_VFORK},
		"both":        {unix.SYS_CLOSE_RANGE, unix.SYS_VFORK},
	} {
		t.Run(name, func(t *testing.T) {
			refusing(t, numbers, func() {
				inheritable, err := unix.FcntlInt(0, unix.F_DUPFD, 30)
				require.NoError(t, err)
				output, status := shell(t, "for i in {3..64}; do test -e /proc/$$/fd/$i && echo $i >&40; done; exit 7", 40)
				assert.Equal(t, "40\n", output)
				assert.Equal(t, 7, status.ExitStatus())
				_, err = sys.Execute("/nowhere", []string{"x"}, nil, nil)
				require.ErrorIs(t, err, unix.ENOENT)
				require.NoError(t, unix.Close(inheritable))
			})
		})
	}
}

// refusing calls f on a thread to which the kernel refuses these system calls (EPERM). The thread ends afterwards.
func refusing(t *testing.T, numbers []uint32, f func()) {
	const load, jumpIfEqual, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{{Code: load}}
	for _, number := range numbers {
		filter = append(filter, unix.SockFilter{Code: jumpIfEqual, K: number, Jf: 1},
			unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	}
	filter = append(filter, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if assert.NoError(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) &&
			assert.NoError(t, unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)) {
			f()
		}
	}()
	<-done
}
