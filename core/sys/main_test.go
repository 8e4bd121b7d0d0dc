package sys_test

import (
	"os"
	"testing"

	"github.com/goproc/goproc/core/leakcheck"
)

func TestMain(m *testing.M) { os.Exit(leakcheck.Main(m)) }
