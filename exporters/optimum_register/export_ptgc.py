"""Registers `optimum-cli export ptgc`; the wheel puts this one file into optimum's register folder."""

from __future__ import annotations

from optimum.commands.export.base import ExportCommand

from ptgc.exporters.optimum_command import PtgcExportCommand

REGISTER_COMMANDS = [(PtgcExportCommand, ExportCommand)]
