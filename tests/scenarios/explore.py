import sys, random
from tests.scenarios import test_scenarios as t
from tests.scenarios.row import told, QUIET
for row in t.TABLE:
    if len(sys.argv) > 1 and not any(a in row.name for a in sys.argv[1:]): continue
    try:
        w = t.happened(row)
    except Exception as e:
        import traceback
        print("## EXC", row.name, traceback.format_exc()[-600:]); continue
    ex = w.log.explained()
    got = dict(events=" ".join(t.lines(w.replay)), status=w.log.status.value, reason=w.log.reason, rule=ex.rule.value, because=" ".join(b.type for b in ex.because), health=w.log.health.verdict.value)
    bad = {k: v for k, v in got.items() if v != getattr(row, k) and k != "events"}
    if got["events"].split() != row.events.split():
        bad["events"] = "\n      got " + got["events"] + "\n      not " + " ".join(row.events.split())
    if row.says not in w.log.state.reason.message: bad["says"] = w.log.state.reason.message
    ways = []
    for test, args in ((t.test_any_legal_order_of_delivery_ends_alike, ()), (t.test_a_restart_of_the_watcher_anywhere_ends_alike, ()), (t.test_a_watch_that_was_cut_and_lists_again_ends_alike, ()), (t.test_everything_delivered_twice_and_out_of_date_is_recorded_once, (1,)), (t.test_everything_delivered_twice_and_out_of_date_is_recorded_once, (2,))):
        try: test(row, *args)
        except Exception as e: ways.append(test.__name__[5:40] + ": " + str(e)[:500])
    if bad or ways:
        print("##", row.name)
        for k, v in bad.items(): print("   ", k, v)
        for v in ways: print("    way", v)
