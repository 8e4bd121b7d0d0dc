package sys

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Seccomp filters and Landlock domains are a thread's own. The kernel tells of the filters no more than how many there
// are, and of the domain nothing. Both only ever grow, and a new thread or process has those of its maker. A server may
// stand for the calling thread only where it is certain that both have the same ones. It is certain when:
//
// Filters: there are none. Or there are as many as there were when the process had one thread: all threads come from
// that one, so these are the same ones. Or there are as many as before on the same thread.
//
// Domain: the thread may look into its parent process, as ptrace(2) understands it. Landlock allows that only where the
// other process is in the same domain, or in one below it. The thread is in the domain that the process began in, or
// below. So it is in just that one. (A domain that this process has entered since cannot be one of the parent's.) Or no
// thread could enter one: that takes no_new_privs or CAP_SYS_ADMIN, in the user namespace that it is in. Or the thread
// is the one that started the server, and may look into the server.
//
// What is not certain is not compared: then an interpreter is executed by the calling thread.

// origin is what the process was when the engine was loaded.
var origin atomic.Pointer[originally]

type originally struct {
	alone      bool   // there was one thread
	filters    string // of seccomp
	powerless  bool   // it could enter no Landlock domain without no_new_privs
	landlock   bool   // the kernel has it, as far as can be seen
	userSpaces string // the user namespace
}

const adminCapability = 21 // CAP_SYS_ADMIN

// NoteOrigin says what /proc/self/status said before the engine was loaded, which starts threads. The thread that
// loaded the engine calls it.
func NoteOrigin(content string) {
	status := parseStatus(content)
	o := &originally{alone: status["Threads"] == "1", filters: status["Seccomp_filters"], landlock: hasLandlock()}
	permitted, err := strconv.ParseUint(status["CapPrm"], 16, 64)
	o.powerless = err == nil && permitted>>adminCapability&1 == 0 && status["NoNewPrivs"] == "0"
	o.userSpaces, _ = os.Readlink("/proc/thread-self/ns/user")
	origin.Store(o)
}

// hasLandlock asks the kernel for the version of Landlock.
func hasLandlock() bool {
	const createRuleset, version = 444, 1
	_, _, errno := unix.RawSyscall(createRuleset, 0, 0, version)
	return errno == 0
}

// readConfinement is the part of ReadCircumstances for filters and domain. proof says that the domain is the server's
// only if SharesDomain says so, too.
func readConfinement(t thread, status map[string]string, userSpace string) (text string, proof bool, err error) {
	o := origin.Load()
	if o == nil {
		o = &originally{landlock: true}
	}
	owns := false // the thread's own filters or domain may differ from another thread's
	switch filters, known := status["Seccomp_filters"]; {
	case status["Seccomp"] == "" || status["Seccomp"] == "0":
	case !known || filters != o.filters:
		return "", false, fmt.Errorf("%w: the seccomp filters of this thread", ErrIncomparable)
	default:
		owns = !o.alone
	}
	text = "domain of the process"
	cannotEnter := !o.landlock && (o.alone || o.filters == "0") ||
		o.alone && o.powerless && status["NoNewPrivs"] == "0" && userSpace == o.userSpaces
	if !cannotEnter && !mayLookInto(unix.Getppid()) {
		owns, proof = true, true
	}
	if owns {
		id, err := t.id()
		if err != nil {
			return "", false, fmt.Errorf("%w: %w", ErrIncomparable, err)
		}
		text = "domain of thread " + id
	}
	return text, proof, nil
}

// SharesDomain reports whether the process, which the calling thread has started, is in the Landlock domain that the
// thread is in now.
func SharesDomain(pid int) bool { return mayLookInto(pid) }

// mayLookInto reports whether the calling thread may read from the process, as ptrace(2) has it: get_robust_list(2)
// asks the kernel that, and nothing else. False where that is not known.
func mayLookInto(pid int) bool {
	if pid <= 0 { // the parent is in another namespace of processes
		return false
	}
	var head, size uintptr
	_, _, errno := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(pid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	return errno == 0
}
