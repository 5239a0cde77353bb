package uplink_test

import "testing"

func TestAHubThatNamesImpossibleEpochsIsNotFollowed(t *testing.T) {
	h, v := newHub(t), &vault{}
	h.set(func() { h.epoch = ^uint64(0) })
	_, stop := run(t, h.token("j1"), newSpoke(), v)
	h.is("heard twice", func() bool { return h.beats >= 2 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if k := v.now(); k.Epoch != 1 {
		t.Errorf("epoch %d", k.Epoch)
	}
}
