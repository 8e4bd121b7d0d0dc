package sys

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The comment in clock.go says why. Only netpoll.go sets a timer, which never goes off.
func TestNoTimersInTheEngine(t *testing.T) {
	timer := regexp.MustCompile(`\btime\.(After|AfterFunc|NewTimer|NewTicker|Tick|Sleep)\(`)
	looked := 0
	for _, folder := range []string{"..", "../../capi", "../../pybind"} {
		require.NoError(t, filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			name := filepath.Base(path)
			if err != nil || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") ||
				name == "netpoll.go" || name == "leakcheck.go" {
				return err
			}
			looked++
			source, err := os.ReadFile(path)
			assert.NotRegexp(t, timer, string(source), path)
			return err
		}))
	}
	assert.Greater(t, looked, 50)
}
