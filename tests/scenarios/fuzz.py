import random, sys
from types import SimpleNamespace
from tests.scenarios import test_scenarios as t, own
from tests.scenarios.world import World
for name, script in own.SCRIPTS.items():
    if len(sys.argv) > 1 and name not in sys.argv[1:]: continue
    w = World()
    script(w); w.flush()
    row = SimpleNamespace(differs={})
    base = t.lines(w.replay)
    n = 0
    def check(way, replay, detail):
        global n
        try:
            t.check_nothing_twice(replay)
            assert t.end_of(replay) == t.end_of(w.replay)
            if way == "twice": assert t.lines(replay) == base
        except AssertionError as e:
            n += 1
            if n <= 2: print("!!", name, way, detail, "\n   ", " ".join(t.lines(replay)), "\n   ", t.end_of(replay), "\n    vs", t.end_of(w.replay), str(e)[:200] if "ids" in str(e) else "")
    try:
        for seed in range(60):
            r = t.replayed(w)
            for act in w.tape.merged(random.Random(seed)): act.do(r)
            check("order", r, seed)
        for cut in range(1, len(w.tape.acts)):
            r = t.replayed(w)
            for i, act in enumerate(w.tape.acts):
                act.do(r)
                if i == cut: r.restart()
            check("restart", r, cut)
        for first, last in t.gaps(w):
            r = t.replayed(w)
            for i, act in enumerate(w.tape.acts):
                r.withheld = r.withheld or i == first
                act.do(r)
                if i == last: r.restart()
            check("away", r, (first, last))
        for v in (1, 2):
            r = t.replayed(w, views=v); r.again = 2
            for act in w.tape.acts: act.do(r)
            check("twice", r, v)
    except Exception as e:
        print("EXC", name, repr(e)[:300])
    print(name, "ok" if not n else n, len(w.tape.acts))
