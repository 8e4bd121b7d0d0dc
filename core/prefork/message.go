package prefork

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The messages, one a packet, in little-endian 32-bit words. To a server: {request, value, 0}. From it: {kind, pid,
// value}, where STANDBY carries two descriptors by SCM_RIGHTS: the process's pidfd, and a socket to it.
const (
	requestFork  = 1 // fork a process now: a request waits for it
	requestTaken = 2 // the value says how many processes no longer stand by
	requestPing  = 3 // the value is the ping's number
	requestStop  = 4

	requestSize = 12
	messageSize = 12
)

// Kind is what a message from the server says.
type Kind uint32

// The kinds of message.
const (
	Standby Kind = 1 // PID stands by
	Failed  Kind = 2 // no process could be forked, because of Errno
	Exited  Kind = 3 // PID has ended with Status; the fork server sends this for each of its processes
	Pong    Kind = 4 // answers the ping ID
	Forked  Kind = 5 // PID was forked, and will send Standby itself: a process of the spawn server
)

// Message is what a server says.
type Message struct {
	Kind   Kind
	PID    int  // of Standby, Exited and Forked
	Status int  // of Exited: an exit code, or the negative number of a signal
	Errno  int  // of Failed
	ID     int  // of Pong
	Ahead  bool // of Forked: whether no request waits for the process
}

// errProtocol is wrapped by every error about a message.
var errProtocol = errors.New("protocol error")

// maxSignal is the highest signal number (SIGRTMAX), maxErrno the highest that the kernel returns.
const (
	maxSignal = 64
	maxErrno  = 4095
)

// Decode reads one packet from the server. It refuses a packet that a server never sends.
func Decode(packet []byte) (Message, error) {
	if len(packet) != messageSize {
		return Message{}, fmt.Errorf("%w: a message of %d bytes", errProtocol, len(packet))
	}
	word := func(i int) int { return int(int32(binary.LittleEndian.Uint32(packet[4*i:]))) }
	m := Message{Kind: Kind(word(0))}
	pid, value := word(1), word(2)
	switch m.Kind {
	case Standby, Exited, Forked:
		if pid <= 0 {
			return Message{}, fmt.Errorf("%w: a process with number %d", errProtocol, pid)
		}
		m.PID = pid
	}
	switch m.Kind {
	case Standby:
	case Failed:
		if value <= 0 || value > maxErrno {
			return Message{}, fmt.Errorf("%w: a fork failed with error %d", errProtocol, value)
		}
		m.Errno = value
	case Exited:
		if value < -maxSignal || value > 255 {
			return Message{}, fmt.Errorf("%w: a process ended with status %d", errProtocol, value)
		}
		m.Status = value
	case Pong:
		m.ID = value
	case Forked:
		if value != 0 && value != 1 {
			return Message{}, fmt.Errorf("%w: a process forked in the way %d", errProtocol, value)
		}
		m.Ahead = value == 1
	default:
		return Message{}, fmt.Errorf("%w: a message of kind %d", errProtocol, m.Kind)
	}
	return m, nil
}

// encodeRequest makes a packet for the server.
func encodeRequest(request, value int) []byte {
	return encodeNumbers([]int{request, value, 0})
}

// encodeOrder makes the order for a process that stands by. It says which numbers the descriptors that come with it are
// to get, whether SIGINT is ignored, and the signal mask.
func encodeOrder(fds []int, interruptIgnored bool, mask uint64) []byte {
	ignored := 0
	if interruptIgnored {
		ignored = 1
	}
	return encodeNumbers(append([]int{ignored, int(int32(mask)), int(int32(mask >> 32))}, fds...))
}

func encodeNumbers(numbers []int) []byte {
	packet := make([]byte, 0, 4*len(numbers))
	for _, number := range numbers {
		packet = binary.LittleEndian.AppendUint32(packet, uint32(number))
	}
	return packet
}
