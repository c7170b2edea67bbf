// Which of a block of 128 positions are free, which locked, which negative, from the generator: a call for
// the signs, then one for each freeze plane, two at most by the law `mixed`, whose other planes take a cycle
// each. Padding is none of them. A block takes calls * (cycles of a call) + 3 cycles, and B - 2 more by
// `mixed` if B > 2. Bits: 512 of the comparison, 128 of signs, 256 of planes 0 and 1 of `mixed`, 54 of
// control.
module pattern (
    input  logic         clk,
    input  logic         rst,
    // the layer
    input  logic [ 31:0] layer,
    input  logic         mixed,        // the freeze law
    input  logic [  4:0] bits,
    input  logic [ 16:0] prune,
    input  logic [ 16:0] lock,
    // the block that is wanted, and how many of its positions are columns of the matrix, 1 to 128
    input  logic         in_valid,
    output logic         in_ready,
    input  logic [ 31:0] block,
    input  logic [  7:0] columns,
    // the generator
    output logic         call_valid,
    input  logic         call_ready,
    output logic [127:0] counter,
    input  logic         words_valid,
    output logic         words_ready,
    input  logic [127:0] words,
    // the block
    output logic         out_valid,
    input  logic         out_ready,
    output logic [127:0] free,
    output logic [127:0] locked,
    output logic [127:0] negative
);
    logic busy;
    logic [31:0] at;
    logic [7:0] width;
    logic [4:0] asked, had;  // calls; calls whose words have come
    logic [4:0] compared;    // freeze planes
    logic [127:0] plane0, plane1;

    wire [4:0] calls = 5'd1 + ((mixed && bits > 5'd2) ? 5'd2 : bits);
    wire accept = in_valid && in_ready;
    assign in_ready = !busy;
    assign call_valid = busy && asked != calls;
    wire [31:0] plane = {27'd0, asked - 5'd1};
    assign counter = asked == 5'd0 ? {32'd0, layer, 32'd0, at} : {32'd1, layer, plane, at};
    assign words_ready = busy;
    wire come = busy && words_valid;

    wire made = busy && had == calls && compared != bits;  // the next plane is one of `mixed` that is made
    logic [127:0] made_plane, free_all, locked_all;
    mixed_plane of_mixed (.a(plane0), .c(plane1), .plane(compared[3:0]), .out(made_plane));
    freeze compare (
        .clk(clk), .bits(bits), .prune(prune), .lock(lock), .clear(accept),
        .take((come && had != 5'd0) || made), .plane(made ? made_plane : words), .free(free_all),
        .locked(locked_all)
    );

    wire [127:0] real_columns = ~(128'hFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF << width);
    assign out_valid = busy && had == calls && compared == bits;
    assign free = free_all & real_columns;
    assign locked = locked_all & real_columns;

    always_ff @(posedge clk) begin
        if (rst) begin
            busy <= 1'b0;
        end else if (accept) begin
            busy <= 1'b1;
        end else if (out_valid && out_ready) begin
            busy <= 1'b0;
        end
        if (accept) begin
            at <= block;
            width <= columns;
            asked <= '0;
            had <= '0;
            compared <= '0;
        end else begin
            if (call_valid && call_ready) asked <= asked + 5'd1;
            if (come) had <= had + 5'd1;
            if ((come && had != 5'd0) || made) compared <= compared + 5'd1;
        end
        if (come && had == 5'd0) negative <= words;
        if (come && had == 5'd1) plane0 <= words;
        if (come && had == 5'd2) plane1 <= words;
    end
endmodule
