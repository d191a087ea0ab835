// @ts-check
/**
 * Chinese for what this pack draws by itself, by the English text; `words.js` says how it is read. The host's share is in locales/zh.
 *
 * {0}, {1} … stand for what varies. Such a part is looked up as well, unless it is one word: those are names of widgets and values. What is
 * here nowhere stays as it is. Of two texts that fit the first one counts.
 */

/** @type {Record<string, string>} */
export const ZH = {
  // the plot
  Steps: "步骤",
  adaptive: "自适应",
  "{0} model calls": "{0} 次模型调用",
  "{0} model call": "{0} 次模型调用",
  "as it ran": "实际运行",
  "so far": "目前最佳",
  tuned: "已调优",
  measured: "实测斜率",
  "Measured in the run: how far a step leans on the last change between predictions. The order is that of leaning on it in full.":
    "运行中实测：每一步依赖预测之间最近变化的程度。所示阶数为完全依赖时的阶数。",
  order: "阶数",
  start: "起步",
  final: "收尾",
  "Start-up: fewer model calls to learn from": "起步：可利用的模型调用较少",
  "Final rule: a lower order at the end": "收尾规则：末尾降低阶数",
  axis: "坐标轴",
  "Noise level: sigma": "噪声级：σ",
  "Half log signal-to-noise: lambda": "对数信噪比的一半：λ",
  "call {0}": "第 {0} 次调用",
  "step {0}": "第 {0} 步",
  "start-up": "起步",
  "final rule": "收尾规则",
  "slope measured": "实测斜率",
  "Chooses its own steps as it runs.": "运行时自行选择步长。",
  "The server does not answer.": "服务器没有响应。",
  "as many model calls as its tolerance asks": "模型调用次数由容差决定",

  // presets
  "DPM-Solver presets": "DPM-Solver 预设",
  "fast {0} ({1})": "快速 {0} ({1})",
  "quality {0} ({1})": "质量 {0} ({1})",
  "exact {0} ({1})": "精确 {0} ({1})",
  "SD 1.5, SDXL": "SD 1.5、SDXL",
  "v-prediction": "v 预测",
  "SD3, Flux, Wan": "SD3、Flux、Wan",
  " Not set, since it is connected or missing: {0}.": "未设置（已连接或不存在）：{0}。",
  "Select the KSampler that it is for, or the SamplerCustom whose sampler and sigmas come from nodes of this pack or of ComfyUI's own lists.":
    "请选中要设置的 KSampler，或选中 sampler 与 sigmas 来自本包节点或 ComfyUI 自带列表节点的 SamplerCustom。",
  "{0} model calls with {1} and the schedule {2}, {3}. Measured at {4} calls in {5} cases: {6} × the error of each case's best built-in pair on average, {7} × in the worst; the best single built-in pair, {8}, has {9} ×. See benchmarks/results/bench.md, {10}. One undo takes it back.":
    "{0} 次模型调用，采样器 {1}，调度 {2}，{3}。在 {5} 种情形、{4} 次调用下实测：误差平均为各情形最佳内置组合的 {6} 倍，最差 {7} 倍；单个最佳内置组合 {8} 为 {9} 倍。见 benchmarks/results/bench.md 的 {10}。撤销一次即可还原。",
  "for a look at what a prompt gives": "用于看看提示词的效果",
  "for a picture to keep": "用于成图",
  "for what no further step would change to the eye": "再加步数肉眼已看不出变化",

  // which schedule it is, and what a tuning has found
  "{0}, {1} steps on Stable Diffusion's noise levels; after a run on the model's own": "{0}，{1} 步，Stable Diffusion 的噪声级；运行后改用模型自己的",
  "{0}, {1} step on Stable Diffusion's noise levels; after a run on the model's own": "{0}，{1} 步，Stable Diffusion 的噪声级；运行后改用模型自己的",
  "{0}, {1} steps, {2}": "{0}，{1} 步，{2}",
  "{0}, {1} step, {2}": "{0}，{1} 步，{2}",
  "{0}, {1} steps": "{0}，{1} 步",
  "{0}, {1} step": "{0}，{1} 步",
  "the model's clock": "模型自己的时间",
  "Stable Diffusion's table, because no model is connected": "未连接模型，故用 Stable Diffusion 的噪声级表",
  "Stable Diffusion's clock, because this model has no table": "此模型没有噪声级表，故用 Stable Diffusion 的时间",
  "Stable Diffusion's table": "Stable Diffusion 的噪声级表",
  "published for {0}, over its own noise levels, because no model is connected": "为 {0} 发表；未连接模型，故用其自身的噪声级",
  "published for {0}": "为 {0} 发表",
  "tuned for {0}": "为 {0} 调优",
  "best so far: error {0}": "目前最佳：误差 {0}",
  "best known so far: {0}, error {1}": "目前最佳的已知调度：{0}，误差 {1}",
  "tuned: error {0}": "已调优：误差 {0}",
  "tuned: nothing was gained over known steps": "已调优：没有胜过已知调度",

  // sentences of the server on widgets that do not go together, whole ones first
  "Adaptive chooses its own steps between the first noise level and the last: the run will show them.":
    "自适应方法在首末噪声级之间自行选择步长，运行后可见。",
  "A number among these values is too large or too small to plan with; choose a more usual one.": "其中有数值过大或过小，无法规划；请换一个更常见的值。",
  "Runs of more than {0} steps are not drawn before they ran.": "超过 {0} 步的运行只在运行后绘出。",
  "manual_sigmas has {0} values; type at least two falling sigmas such as {1}.": "manual_sigmas 有 {0} 个值；请输入至少两个递减的 sigma，例如 {1}。",
  "manual_sigmas has {0} value; type at least two falling sigmas such as {1}.": "manual_sigmas 只有 {0} 个值；请输入至少两个递减的 sigma，例如 {1}。",
  "manual_sigmas: {0} can be read in two ways; write decimals with a point, such as {1}.": "manual_sigmas：{0} 有两种读法；小数请用点，例如 {1}。",
  "manual_sigmas: {0} is not a number; type falling sigmas such as {1}.": "manual_sigmas：{0} 不是数；请输入递减的 sigma，例如 {1}。",
  "manual_sigmas: {0} is not a finite number; type falling sigmas such as {1}.": "manual_sigmas：{0} 不是有限的数；请输入递减的 sigma，例如 {1}。",
  "sigmas: {0} and {1} are both {2}; remove one, they must strictly fall or rise.": "sigmas：{0} 与 {1} 都是 {2}；请删去一个，它们必须严格递减或递增。",
  "sigmas: {0} is {1}, but a flow model's noise levels lie in 0…1; use a scheduler made for this model.":
    "sigmas：{0} 为 {1}，但流模型的噪声级在 0…1 之间；请使用适合此模型的调度器。",
  "sigmas: {0} is {1}; a noise level cannot be negative, so use values from the largest down to 0.":
    "sigmas：{0} 为 {1}；噪声级不能为负，请从最大值递减到 0。",
  "sigmas: {0} is {1}; every sigma must be a finite number, so check the node that made them.": "sigmas：{0} 为 {1}；sigma 必须是有限的数，请检查产生它的节点。",
  "sigmas: they rise from 0, where no noise is there to grow; start at the model's least sigma (final_sigma sigma_min).":
    "sigmas：从 0 开始递增，而那里没有噪声可增；请从模型的最小 sigma 开始（final_sigma 设为 sigma_min）。",
  "sigmas: they rise, but fall from {0} to {1} at step {2}; sort them one way.": "sigmas：整体递增，却在第 {2} 步从 {0} 降到 {1}；请按同一方向排列。",
  "sigmas: they rise from {0} to {1} at step {2}; sort them to fall.": "sigmas：在第 {2} 步从 {0} 升到 {1}；请按递减排列。",
  "{0} is not below {1}; raise sigma_max or lower sigma_min, or set both to 0 for the model's range.":
    "{0} 不低于 {1}；请提高 sigma_max 或降低 sigma_min，或都设为 0 以使用模型的范围。",
  "schedule {0} cannot place {1} steps between sigma_max {2} and sigma_min {3} on this model; take fewer steps, another schedule, or 0 for both.":
    "在此模型上，调度 {0} 无法在 sigma_max {2} 与 sigma_min {3} 之间放下 {1} 步；请减少步数、换一个调度，或将两者设为 0。",
  "schedule {0} has the noise levels of {1}, a flow model, and they spoil pictures of a model that is none; connect the model, so that they are fitted to it.":
    "调度 {0} 是流模型 {1} 的噪声级，用于非流模型会损坏图像；请连接模型，使噪声级与它相配。",
  "schedule {0} was made for {1}, which {2}, but this model {3}; its levels are taken at the same signal-to-noise ratio and gain nothing, so choose auto.":
    "调度 {0} 是为 {1} 制作的（{2}），但此模型{3}；其噪声级按相同信噪比换算，没有收益，请选择 auto。",
  "is a flow model": "是流模型",
  "is not a flow model": "不是流模型",
  "sigma_min is {0}, which changes nothing here: a table is cut only above the level that its last step starts from; set it to 0.":
    "sigma_min 为 {0}，在此不起作用：噪声级表只在其最后一步的起点之上截断；请设为 0。",
  "{0} for {1}, but this run has {2}; {3}.": "{0}：{1}；但本次运行为 {2}；{3}。",
  "the statistics {0} were made": "统计数据 {0} 的测量对象",
  "calibrate for this use, or expect less of it": "请为此用法重新校准，否则效果会差一些",
  "the steps of {0} were tuned": "{0} 的步的调优对象",
  "tune for this use, or expect less of them": "请为此用法重新调优，否则效果会差一些",
  "{0} was tuned for other sigmas than this run has, so its gains are off; connect its own sigmas to use them.":
    "{0} 是为另一组 sigma 调优的，故其系数未启用；要使用它们，请连接它自己的 sigmas。",
  "{0} has gains, which would change what a mask keeps, so they are off in this run.": "{0} 的系数会改变遮罩所保留的部分，故本次运行未启用。",
  "denoise is 0, so there are no steps; raise it.": "denoise 为 0，没有任何步；请调高。",
  "steps is {0}; at least one step is needed.": "steps 为 {0}；至少需要一步。",
  "denoise is {0}; it lies between 0 (keep the picture) and 1 (make it anew).": "denoise 为 {0}；它在 0（保留图像）与 1（重新生成）之间。",
  "order is {0}, but a run of {1} step has at most order {2}.": "order 为 {0}，但 {1} 步的运行最多 {2} 阶。",
  "order is {0}, but a run of {1} steps has at most order {2}.": "order 为 {0}，但 {1} 步的运行最多 {2} 阶。",
  "order is {0}, but singlestep methods have orders 1 to 3; choose one of them, or method multistep.":
    "order 为 {0}，但 singlestep 类方法只有 1 到 3 阶；请从中选择，或将 method 设为 multistep。",
  "order is {0}; adaptive compares two orders, so choose 2 (orders 1 and 2) or 3 (2 and 3).": "order 为 {0}；adaptive 比较两个阶数，请选 2（1 与 2 阶）或 3（2 与 3 阶）。",
  "order is {0} with eta {1}, but the SDE solvers have 1 and 2 here; set order to 2, or noise_rule to renoise.":
    "order 为 {0} 且 eta 为 {1}，但 SDE 求解器在此只有 1 与 2 阶；请将 order 设为 2，或将 noise_rule 设为 renoise。",
  "r1 is {0} and r2 is {1}; the stages follow each other, so make r1 the smaller.": "r1 为 {0}，r2 为 {1}；各级依次进行，请让 r1 较小。",
  "corrector is {0} with eta {1}, but needs a path without noise; set corrector to none or eta to 0.":
    "corrector 为 {0} 且 eta 为 {1}，但它需要不加噪声；请将 corrector 设为 none，或将 eta 设为 0。",
  "start is extra, which needs corrector unipc, order 3 or 4, that many steps and a finite first λ; corrected acts.":
    "start 为 extra，它需要 corrector unipc、3 或 4 阶、同样多的步以及有限的首个 λ；改用 corrected。",
  "corrector_range is {0}, but corrector is none, so there is nothing to limit.": "corrector_range 为 {0}，但 corrector 为 none，没有可限制的。",
  "corrector_range is {0} to {1}, which acts with a corrector only; set corrector to unipc.":
    "corrector_range 为 {0} 到 {1}，只与校正器一起起作用；请将 corrector 设为 unipc。",
  "eta is {0}, but {1} know no fresh noise; set {2}, or eta to 0.": "eta 为 {0}，但 {1} 不能加新噪声；请设置 {2}，或将 eta 设为 0。",
  "eta is {0}, but {1} knows no fresh noise; set {2}, or eta to 0.": "eta 为 {0}，但 {1} 不能加新噪声；请设置 {2}，或将 eta 设为 0。",
  "eta is {0}, but noise_rule {1} replaces at most all of the noise; set eta to 1 or less.":
    "eta 为 {0}，但 noise_rule {1} 最多替换全部噪声；请将 eta 设为 1 或更小。",
  "eta is {0}, but the sigmas rise: an image is encoded without new noise, so set eta to 0.":
    "eta 为 {0}，但 sigma 递增：编码图像时不加新噪声，请将 eta 设为 0。",
  "threshold_ratio is {0}; it is a share of the pixels above 0 and up to 1, 0.995 as a rule.": "threshold_ratio 为 {0}；它是像素的份额，大于 0 且不超过 1，一般为 0.995。",
  "{0} is {1}; a stage lies inside its step, so type a number between 0 and 1.": "{0} 为 {1}；它在一步之内，请输入 0 与 1 之间的数。",
  "{0} is {1}; type a number above 0, 1 {2}.": "{0} 为 {1}；请输入大于 0 的数，{2}为 1。",
  "as a rule": "一般",
  "for normalised latents": "归一化的潜变量",
  "{0} is {1}; choose {2}, such as {3}.": "{0} 为 {1}；请选择 {2}，例如 {3}。",
  "a finite number above 0": "大于 0 的有限数",
  "a whole number, 2 or more": "不小于 2 的整数",
  "a number between 0 and 1": "0 与 1 之间的数",

  // and the parts that the rest is made of
  "{0}, which {1}; {2}.": "{0}，{1}；{2}。",
  "{0}, which {1}.": "{0}，{1}。",
  "the model's {0}": "模型的 {0}",
  "acts with method multistep and eta 0 only, so there is none in this run": "只在 method multistep 且 eta 为 0 时起作用，故本次运行没有校正",
  "thresholding is off": "而 thresholding 为 off",
  "acts with eta above 0 only": "只在 eta 大于 0 时起作用",
  "acts with {0} only, not with {1}": "只在 {0} 时起作用，{1} 时无效",
  "acts with {0} without ems only": "只在 {0} 且没有 ems 时起作用",
  "acts with {0} only": "只在 {0} 时起作用",
  "acts at order {0} only": "只在 {0} 阶时起作用",
  "acts from order {0} on": "从 {0} 阶起才起作用",
  "does not act with {0}": "在 {0} 时不起作用",
  "algorithm dpmsolver-v takes for unipc": "算法 dpmsolver-v 将其视为 unipc",
  "algorithm dpmsolver-v, always exact, knows at most in the first steps from pure noise": "算法 dpmsolver-v 总是精确积分，至多在从纯噪声开始的最初几步用到它",
  "algorithm {0} does not have": "算法 {0} 没有",
  "is a multistep solver": "它是 multistep 求解器",
  "is UniPC's and not for algorithm {0}": "它属于 UniPC，不用于算法 {0}",
  "multistep solvers have": "只有 multistep 求解器才有",
  "set it to {0}, or {1} to its default": "请设为 {0}，或将 {1} 恢复默认",
  "set it to {0}, or {1} to {2}": "请设为 {0}，或将 {1} 设为 {2}",
  "set it to {0}": "请设为 {0}",
  "set {0} to {1}, or {2} to its default": "请将 {0} 设为 {1}，或将 {2} 恢复默认",
  "set {0} to {1}, or {2} to {3}": "请将 {0} 设为 {1}，或将 {2} 设为 {3}",
  "set {0} to {1}": "请将 {0} 设为 {1}",
  "choose one of {0}": "请从 {0} 中选择",
  "choose {0}, or method multistep": "请选择 {0}，或将 method 设为 multistep",
  "choose {0}": "请选择 {0}",
  "{0} to {1}, {2}": "{0} 为 {1}，{2}",
  "{0} to {1} and {2}": "{0} 为 {1}，{2}",
  "{0} to {1}": "{0} 为 {1}",
  "{0} is {1}": "{0} 为 {1}",
  "{0}, {1} or {2}": "{0}、{1} 或 {2}",
  "{0} or {1}": "{0} 或 {1}",

  // solvers and orders: last, since they fit into much
  "multistep {0}": "multistep {0}",
  "singlestep {0}": "singlestep {0}",
  "adaptive {0}": "自适应 {0}",
  "{0} order {1}, {2}": "{0} {1} 阶，{2}",
  "{0} order {1}": "{0} {1} 阶",
  "{0}, eta {1}": "{0}，eta {1}",
  "order {0}, {1} before its correction": "{0} 阶（校正前 {1}）",
  "order {0}": "{0} 阶",
  "{0} and {1}": "{0} 与 {1}",
  "{0}: {1} at sigma {2}": "{0}：{1}，sigma 依次为 {2}",
  "{0}: as many model calls as its tolerance asks": "{0}：模型调用次数由容差决定",
};
