"""What make says to a goal that it does not know. Standard library only: it may run before any environment exists.

python3 common/unknown_goal.py GOAL KNOWN...
"""

import difflib
import sys

goal, known = sys.argv[1], sys.argv[2:]
if "/" in goal or "." in goal:  # a file that some rule needs, not a word that somebody typed
    print(f"ERROR: {goal} is missing, and nothing makes it\nHINT: git status shows what was removed", file=sys.stderr)
    sys.exit(2)
near = difflib.get_close_matches(goal, known, n=1)
print(f"ERROR: unknown chip or goal '{goal}'; known: {', '.join(known)}", file=sys.stderr)
print(f"HINT: {f'did you mean {near[0]}?' if near else 'see make help'}", file=sys.stderr)
sys.exit(2)
