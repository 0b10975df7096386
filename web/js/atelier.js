// Shows what a LoRA Atelier node said (ui.text) below the node, with a link to its report. Nothing else.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

const WIDGET = "atelier_says";
const LINE_HEIGHT = 15;
const FRAME = 34; // padding, and the margin the page puts around such a widget
const MAX_HEIGHT = 180;

function panel(node) {
  const existing = node.widgets?.find((widget) => widget.name === WIDGET);
  if (existing) return existing;
  const element = document.createElement("div");
  element.style.cssText =
    "overflow:auto;padding:4px 6px;font:11px/15px ui-monospace,monospace;white-space:pre-wrap;word-break:break-word;" +
    "color:var(--input-text,#ddd);background:var(--comfy-input-bg,#222);border-radius:4px;box-sizing:border-box";
  const widget = node.addDOMWidget(WIDGET, "atelier_text", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => widget.atelierHeight ?? 0,
    getMaxHeight: () => widget.atelierHeight ?? 0,
  });
  widget.serialize = false; // keeps the text out of the saved workflow
  return widget;
}

function show(node, lines, reports) {
  const widget = panel(node);
  const element = widget.element;
  element.replaceChildren();
  for (const address of reports) {
    if (!address.startsWith("/lora_atelier/")) continue;
    const link = document.createElement("a");
    link.href = api.apiURL(address);
    link.target = "_blank";
    link.rel = "noopener";
    link.textContent = "Open the report";
    link.style.cssText = "display:block;color:var(--p-primary-color,#6cf)";
    element.append(link);
  }
  element.append(lines.join("\n"));
  const columns = Math.max(20, (node.size[0] - 40) / 6.7);
  const rows = lines.join("\n").split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
  widget.atelierHeight = Math.min(MAX_HEIGHT, (rows + reports.length) * LINE_HEIGHT + FRAME);
  const wanted = node.computeSize();
  node.setSize([node.size[0], Math.max(node.size[1], wanted[1])]);
  node.setDirtyCanvas(true, true);
}

app.registerExtension({
  name: "lora-atelier.says",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("Atelier")) return;
    const inherited = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      inherited?.apply(this, arguments);
      if (output?.text || output?.atelier_report) show(this, output.text ?? [], output.atelier_report ?? []);
    };
  },
});
