"""Kernels compiled by LLVM (llvmlite) in less than a second; no compiler has to be installed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

from emt_cli.engine.compiled import compiled_path, keep_compiled, read_compiled
from emt_cli.engine.native.llvm import Function
from emt_cli.engine.native.processor import Processor

_CTYPES: dict[str, Any] = {"i64": ctypes.c_int64, "ptr": ctypes.c_void_p}


class Program:
    """Compiled functions, called by name with integers and addresses; other threads run meanwhile.

    They are compiled once for each processor and version of llvmlite, and then read from the cache folder:
    one after the other, as they are written, so that only one of them takes memory at a time.
    """

    def __init__(self, functions: Iterable[Function], cpu: Processor) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_triple(llvm.get_process_triple())
        machine = target.create_target_machine(cpu=cpu.name, features=cpu.features, opt=2)
        self._engine: Any = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        signatures = {}
        for function in functions:
            code = _machine_code(function, cpu, machine)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            signatures[function.name] = [_CTYPES[kind] for _, kind in function.arguments]
        self._engine.finalize_object()
        self._functions = {
            name: ctypes.CFUNCTYPE(None, *kinds)(self._engine.get_function_address(name))
            for name, kinds in signatures.items()
        }

    def __call__(self, name: str, *arguments: int) -> None:
        """Call a function with integers, and addresses as integers."""
        self._functions[name](*arguments)


def _machine_code(function: Function, cpu: Processor, machine: Any) -> bytes:
    """Return a function as an object file, from the cache folder or compiled now."""
    import llvmlite
    import llvmlite.binding as llvm

    source = function.module()
    path = compiled_path("native", llvmlite.__version__, cpu, source)
    code = read_compiled(path)
    if code is None:
        module = llvm.parse_assembly(source)
        module.verify()
        code = machine.emit_object(module)
        keep_compiled(path, code)
    return code
