package campaign

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
)

func TestHarderCasesDoMoreAtOnceAndLonger(t *testing.T) {
	t.Parallel()
	c, err := harness.ParseCase([]byte("target x\no: a new\n+ f = net/x at=1ms for=5ms &\na get id={{o.id}} *2 &\nb put\nc end\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"o: a new\n+ f = net/x at=1ms for=5ms &\na get id={{o.id}} *8 &\nb put *4\nc end\n",
		"o: a new\n+ f = net/x at=1ms for=5ms &\na get id={{o.id}} *32 &\nb put *16\nc end\n",
		"o: a new\n+ f = net/x at=1ms for=5ms &\na get id={{o.id}} *8 &\nb put *4 &\nt1 get id={{o.id}} *8 &\nt2 put *4\nc end *4 &\nt3 end *4\n",
		"o: a new\n+ f = net/x &\na get id={{o.id}} *2 &\nb put\nc end\n",
		"o: a new\n+ f = net/x &\na get id={{o.id}} *32 &\nb put *16\nc end\n",
		"o: a new\n+ f = net/x &\na get id={{o.id}} *8 &\nb put *4 &\nt1 get id={{o.id}} *8 &\nt2 put *4\nc end *4 &\nt3 end *4\n",
	}
	var got []string
	for v := range harder(c, false) {
		if _, err := harness.ParseCase([]byte(v.String())); err != nil {
			t.Errorf("%v\n%s", err, v)
		}
		got = append(got, v.String()[len("target x\nseed 0\n"):])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("harder cases (-want +got):\n%s", diff)
	}
}
