import sys
from tests.scenarios.world import World
from tests.scenarios.row import told, QUIET
from tests.scenarios.own import SCRIPTS
for name, script in SCRIPTS.items():
    w = World(); w.submit()
    try:
        script(w); w.flush()
    except Exception as e:
        import traceback; traceback.print_exc()
    ex = w.log.explained()
    print("##", name); print("  ", " ".join(told(r) for r in w.log.records if not isinstance(r.event, QUIET)))
    print("  ", w.log.status.value, w.log.reason, w.state.attempt, w.state.retry_count, w.state.interruptions, "|", w.log.state.reason.message, "|", ex.rule.value, "|", " ".join(b.type for b in ex.because), "|", w.log.health.verdict.value, "| left", w.state.holds_resources)
