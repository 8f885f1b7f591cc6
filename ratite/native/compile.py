"""LLVM: from IR text to object code, and from object code to callable addresses.

Object code names its symbols and holds no addresses, so the same bytes serve any process on the
same kind of host.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding as llvm


class CompileError(Exception):
    """LLVM refused the text: a bug of ours. The message holds LLVM's and the path of the text, if
    it was kept.
    """


@functools.cache
def _initialized() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # Loops of guest code have their induction variables in registers already; reducing them anew
    # costs instructions and registers. So do constants that are kept in registers for later; sums
    # of 32 bits become shifts and sums of 64 besides.
    llvm.set_option("", "-disable-lsr")
    llvm.set_option("", "-disable-constant-hoisting")
    return llvm.Target.from_default_triple()


@functools.cache
def host_cpu() -> tuple[str, str]:
    """Name and feature string of the host's CPU, as LLVM spells them."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def target_machine(level: int) -> Any:
    """A code generator for the host; `level` is LLVM's optimisation level of code generation."""
    cpu, features = host_cpu()
    return _initialized().create_target_machine(
        cpu=cpu, features=features, opt=level, reloc="pic", codemodel="small"
    )


def parse(text: str, *, checked: bool = True) -> Any:
    """Parse LLVM text, and verify it unless told otherwise. Raises `CompileError`."""
    _initialized()
    try:
        # In a context of its own, which goes with it: the global one keeps what it has seen.
        module = llvm.parse_assembly(text, llvm.create_context())
    except RuntimeError as error:
        raise CompileError(str(error)) from None
    if checked:
        _verify(module)
    return module


def _verify(module: Any) -> None:
    try:
        module.verify()
    except RuntimeError as error:
        raise CompileError(str(error)) from None


def optimize(module: Any, machine: Any, level: int) -> None:
    """Run LLVM's standard pipeline without vectorisation, which scalar guest code does not
    repay.
    """
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = False
    options.slp_vectorization = False
    options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def compile_text(text: str, *, level: int = 2) -> bytes:
    """Object code of a module. Raises `CompileError`."""
    machine = target_machine(level)
    module = parse(text)
    module.triple = llvm.get_process_triple()
    module.data_layout = str(machine.target_data)
    optimize(module, machine, level)
    code: bytes = machine.emit_object(module)
    return code


_REGION_PASSES = (
    "add_sroa_pass",
    "add_simplify_cfg_pass",
    "add_instruction_combine_pass",
    "add_simplify_cfg_pass",
)


def compile_region(text: str, *, quick: bool, checked: bool = False) -> bytes:
    """Object code of a region by a few passes: more of them cost more time than the code gets
    faster. `quick` takes half as long, for code that is somewhat slower; `checked` has the module
    verified before and after the passes. Raises `CompileError`.
    """
    module, machine = _prepared(text, quick, checked)
    if checked:
        _verify(module)
    code: bytes = machine.emit_object(module)
    return code


def region_assembly(text: str, *, quick: bool) -> str:
    """What `compile_region` makes, as assembly."""
    module, machine = _prepared(text, quick, checked=False)
    listing: str = machine.emit_assembly(module)
    return listing


class _RegionTools:
    """What regions of one kind are compiled with, made once: llvmlite's passes and builders keep
    some memory each time that one is made. Calls of LLVM are serialised by llvmlite.
    """

    def __init__(self, quick: bool) -> None:
        self.machine = target_machine(1 if quick else 2)
        options = llvm.create_pipeline_tuning_options(speed_level=1)
        self.builder = llvm.create_pass_builder(self.machine, options)
        self.inline = llvm.create_new_module_pass_manager()
        self.inline.add_always_inliner_pass()
        self.inline.add_global_dead_code_eliminate_pass()
        self.passes = llvm.create_new_function_pass_manager()
        for name in _REGION_PASSES:
            getattr(self.passes, name)()


@functools.cache
def _region_tools(quick: bool) -> _RegionTools:
    return _RegionTools(quick)


def _prepared(text: str, quick: bool, checked: bool) -> tuple[Any, Any]:
    tools = _region_tools(quick)
    machine = tools.machine
    module = parse(text, checked=checked)
    module.triple = llvm.get_process_triple()
    module.data_layout = str(machine.target_data)
    if not quick and "strictfp" in text:
        # Checks of the rounding mode and flags move out of loops.
        optimize(module, machine, 2)
        return module, machine
    tools.inline.run(module, tools.builder)
    for function in module.functions:
        if not function.is_declaration:
            tools.passes.run(function, tools.builder)
            if quick:
                # Not to be optimised further: the quick instruction selector, and no passes of code
                # generation but those that must be; register allocation stays the good one.
                function.add_function_attribute("noinline")
                function.add_function_attribute("optnone")
    return module, machine
