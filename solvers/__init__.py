"""The DPM-Solver family as pure planners and one small interpreter: stdlib and numpy only, arrays by duck typing.

Read `tape` (the program a run follows), then `multistep` (a planner), then `execute` (the interpreter).
"""
