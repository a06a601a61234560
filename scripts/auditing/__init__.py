"""Layers of published libraries as functions that `experiments.audit` and `qat.audit_layer` take, one library a file.

Each is called as its library's documentation has it. scripts/audit_libraries.py writes docs/results/audit from them.
"""
